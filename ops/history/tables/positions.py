"""Where a history stands: how many batches of one file have been stored. Answers carry it, and readers wait for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_TEXT = re.compile(r"([0-9a-f]{16}):([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Position:
    """The number of the newest batch in a file; `generation` is drawn when the file is made, and is its own.

    A file that was built anew numbers its batches anew, so that numbers of two generations cannot be compared.
    """

    generation: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.generation}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The position that is written so; None for other text."""
        found = _TEXT.fullmatch(text)
        return cls(found[1], int(found[2])) if found else None

    def covers(self, other: Position) -> bool:
        """Whether all that was known there is known here."""
        return self.generation == other.generation and self.sequence >= other.sequence

    def next(self) -> Position:
        """The position after one more batch."""
        return Position(self.generation, self.sequence + 1)
