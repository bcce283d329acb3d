"""A toy actor in one file: it counts versions. `TALLY_ROLE` is its row, `TALLIES` the row of its journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from actors.deciders.decider import Decider
from actors.keys import OperatorKey
from actors.runtime.effects import Effects
from actors.runtime.meter import Instruments, Meter
from actors.runtime.role import Role
from schemas.events import JournalEvent, ModelPublished, Noticed
from schemas.topics import ROUNDS, Topic
from streams.log import EventLog

TALLIES = Topic("tallies", "tally", ROUNDS.retention, is_journal=True)
TALLY_ROLE = Role(
    name="tally",
    summary="Count the versions of each task.",
    journal=TALLIES.name,
    inputs=(ROUNDS.name,),
    ticks=None,
    decider=__name__,
    effects=__name__,
    meter=__name__,
    turning_points=(Noticed,),
)


@dataclass(slots=True)
class Tally:
    """Versions so far, by task."""

    versions: dict[str, int] = field(default_factory=dict)


def decide(state: Tally, fact: object, time_ms: int) -> list[JournalEvent]:
    """Notice each version once."""
    return [Noticed(fact=fact)] if isinstance(fact, ModelPublished) else []


def evolve(state: Tally, event: JournalEvent, time_ms: int) -> None:
    """Count it, and add up version numbers, so that no two histories with different versions fold to the same."""
    match event:
        case Noticed(fact=ModelPublished() as published):
            state.versions[published.task] = state.versions.get(published.task, 0) + 1 + published.version


def entries(state: Tally) -> int:
    """Tasks."""
    return len(state.versions)


def make_decider(key_id: bytes) -> Decider[Tally]:
    """Its pure half."""
    return Decider(initial=Tally, decide=decide, evolve=evolve, entries=entries)


def make_effects(log: EventLog, partition: int, *, key: OperatorKey) -> Effects[Tally, JournalEvent]:
    """It has no effect but its journal."""
    return Effects()


class TallyMeter(Meter):
    """Shows the newest version."""

    def __init__(self, instruments: Instruments) -> None:
        self._newest = instruments.gauge("tally_newest", "Newest version that was counted", "task")

    def follow(self, event: JournalEvent, time_ms: int) -> None:
        """The version that an event notices."""
        match event:
            case Noticed(fact=ModelPublished() as published):
                self._newest.labels(published.task).set(published.version)


def make_meter(instruments: Instruments) -> Any:
    """Its gauge."""
    return TallyMeter(instruments)
