"""Paragraphs, tables and cells of docs/performance.md."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any


def wrap(text: str, *, indent: str = "") -> str:
    """A paragraph, or an item whose further lines are indented, in lines that fit the page."""
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell(each) for each in line) + " |" for line in lines)


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def kept(is_so: bool) -> str:
    """Whether an aim was reached."""
    return "kept" if is_so else "**missed**"
