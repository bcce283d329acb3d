"""Law 9 for one partition: an input on which our own code fails is recorded as a defect and passed.

An actor whose state is half changed by such an input is thrown away; the next one of the partition gets the same guard,
and so knows what to skip. A worker that dies of an input leaves its place in a crash marker; its supervisor tells the
next worker, which skips it too.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import structlog

from schemas.errors import FedlogError
from schemas.events import DefectFound
from streams.log import Record

# An event has room for a hint; the log of the worker has the rest.
ERROR_CHARACTERS_MAX = 200
# One death may be chance, such as a machine short of memory; three at the same place are not.
DEATHS_MAX = 3  # in a row at the same input; then it is skipped

logger = structlog.get_logger()


class InputPlace(NamedTuple):
    """One thing to decide: a record of an input topic, and the number of the event in it; a journal's holds many."""

    topic: str
    offset: int
    number: int = 0


class SkipLevel(IntEnum):
    """How much of an input is still decided: the outcome that its lease asks for, without its body; or nothing."""

    WITHOUT_BODY = 1
    ENTIRELY = 2


class Skip(NamedTuple):
    """That an input has failed before, and why: it is skipped when it comes again."""

    level: SkipLevel
    error: str


class PoisonInput(NamedTuple):
    """An input at which a worker died again and again, without an exception that anybody could catch."""

    partition: int
    place: InputPlace
    deaths: int
    last: str

    @property
    def skip(self) -> Skip:
        """Without its body at first; entirely where not even that is survived."""
        # The body is the likelier cause, and without it the lease still gets the outcome that it is owed (law 9).
        level = SkipLevel.WITHOUT_BODY if self.deaths < 2 * DEATHS_MAX else SkipLevel.ENTIRELY
        return Skip(level, f"{self.deaths} deaths in a row: {self.last}"[:ERROR_CHARACTERS_MAX])


class StateHalfApplied(FedlogError):
    """A part of a decision is in the state, so nobody may use this state again: open anew, and replay.

    The next actor of the partition needs the guard of this one, or it fails at the same input again.
    """

    code = "state_half_applied"


class Alarms:
    """Tells each kind of failure, type and place, once with its traceback; then how often, ever more rarely.

    Who finds a way to make our code fail could otherwise fill the disk with the same traceback.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def tell(self, error: BaseException, **where: str) -> str:
        """Count a failure, and log it where that is due; what the journal may say of it."""
        kind = describe(error)
        count = self._counts[kind] = self._counts[kind] + 1
        if count == 1:
            # The traceback goes to the log of the process alone: the journal is kept for ever, and others may read it.
            logger.critical("defect", error=repr(error), exc_info=error, **where)
        # At powers of two, so that a flood of a million costs twenty lines.
        elif count & (count - 1) == 0:
            logger.critical("defect", error=kind, count=count, **where)
        return kind


class Guard:
    """What has failed on one partition. It outlives the actors of the partition, but not the process.

    `mark_in_hand`, where set, is called with the place of each input before it is decided and with None after.
    """

    def __init__(self, actor: str, partition: int) -> None:
        self.skips: dict[InputPlace, Skip] = {}
        self.defects = 0
        self.mark_in_hand: Callable[[InputPlace | None], None] | None = None
        self._actor, self._partition, self._alarms = actor, partition, Alarms()

    def skips_any(self, record: Record, count: int) -> bool:
        """Whether one of the `count` inputs of this record was to be skipped."""
        return any(InputPlace(record.topic, record.offset, number) in self.skips for number in range(count))

    def raise_alarm(self, place: InputPlace, error: BaseException) -> str:
        """Count and log a failure; what the journal may say of it."""
        self.defects += 1
        where = f"{place.topic}[{self._partition}]@{place.offset} ({place.number})"
        return self._alarms.tell(error, actor=self._actor, where=where)

    def skip_next_time(self, place: InputPlace, error: BaseException, *, after: Skip | None) -> None:
        """Skip this input when it comes again: without its body first, entirely where that was what failed."""
        level = SkipLevel.WITHOUT_BODY if after is None else SkipLevel.ENTIRELY
        self.skips[place] = Skip(level, self.raise_alarm(place, error))


def record_defect(place: InputPlace, error: str) -> DefectFound:
    """The event that stands for an input on which our own code fails."""
    topic, offset, number = place
    return DefectFound(topic=topic, count=1, first_offset=offset, last_offset=offset, number=number, error=error)


def describe(error: BaseException) -> str:
    """The type of an exception and where it was raised; never its text, which may hold what a device sent."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    # ASCII, so that characters are bytes where room in a record is reserved for it.
    return f"{type(error).__name__}{where}"[:ERROR_CHARACTERS_MAX].encode("ascii", "replace").decode()
