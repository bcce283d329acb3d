"""What one kind of trial comes to: how often, against what, and what was found; and how a page shows it."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Excuses = frozenset[tuple[str, str]]
"""Where something was found, and what, of bugs that were mended since."""

MODELS = "models recomputed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One kind of trial; `struck` counts its faults by name, `violations` what no mended bug explains."""

    title: str
    tried: str
    command: str
    tries: int
    violations: int
    struck: Counter[str]
    body: str
    seeds: int = 0
    seconds: float = 0.0
    models: int = 0

    def strikes(self, beginnings: Iterable[str]) -> int:
        """How often the faults have struck whose names begin so."""
        return sum(count for name, count in self.struck.items() if name.startswith(tuple(beginnings)))


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    written = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(written)


def wrap_text(text: str, *, indent: str = "") -> str:
    """A paragraph, or an item whose further lines are indented, in lines that fit the page."""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
