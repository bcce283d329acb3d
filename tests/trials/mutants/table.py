"""The faults of table.toml, as values."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault: `old` becomes `new` in `file`, which breaks `promise`; `test` has to notice."""

    name: str
    promise: str
    file: str
    old: str
    new: str
    test: str

    def applied(self, source: str) -> str:
        """The source with the fault in it. Raises ValueError unless `old` stands in it exactly once."""
        if source.count(self.old) != 1:
            raise ValueError(f"mutant {self.name!r}: its place stands {source.count(self.old)} times in {self.file}")
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanted:
    """A fault that breaks no promise by design, so that no test may turn red; `test` shows that it does no harm."""

    name: str
    because: str
    test: str


def mutants() -> list[Mutant]:
    """All of them, in the order of the table."""
    return [Mutant(**row) for row in _table()["mutant"]]


def unplanted() -> list[Unplanted]:
    """What one would expect among the mutants, and why it is not there."""
    return [Unplanted(**row) for row in _table()["planted_nowhere"]]


def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("table.toml").read_text())
