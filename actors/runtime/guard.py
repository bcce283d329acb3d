"""Inputs on which our own code fails: how they are named, what is told of them, and how far they are passed (law 9)."""

from __future__ import annotations

import traceback
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from schemas.errors import FedlogError

ERROR_CHARACTERS_MAX = 200
DEATHS_MAX = 3  # in a row at the same input; then it is passed


class InputPlace(NamedTuple):
    """One thing to decide: a record of an input topic, and the number of the fact in it; a journal's holds many."""

    topic: str
    offset: int
    number: int = 0


class SkipLevel(IntEnum):
    """How far an input is passed: not at all; decided without its body, where a lease asks for an outcome; or bare."""

    NOT = 0
    WITHOUT_BODY = 1
    BARE = 2


class Skip(NamedTuple):
    """That an input has failed before, and of what: it is passed when it comes again."""

    how: SkipLevel
    error: str


class PoisonInput(NamedTuple):
    """An input at which a worker died again and again, without an exception that anybody could catch."""

    partition: int
    at: InputPlace
    deaths: int
    last: str

    @property
    def passing(self) -> Skip:
        """Without its body at first; bare where not even that is survived."""
        how = SkipLevel.WITHOUT_BODY if self.deaths < 2 * DEATHS_MAX else SkipLevel.BARE
        return Skip(how, f"{self.deaths} deaths in a row: {self.last}"[:ERROR_CHARACTERS_MAX])


class StateHalfApplied(FedlogError):
    """A decision was folded half-way, so nobody may use this state again: open anew, and replay.

    The next actor of the partition needs this one's `passes`, or it fails at the same input again.
    """

    code = "state_half_applied"


def described(error: BaseException) -> str:
    """The type of an exception and where it was raised; never its text, which may hold what a device sent."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"[:ERROR_CHARACTERS_MAX]
