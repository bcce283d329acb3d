"""The part of the law check that follows the keys of sealed tasks: what is sealed under which, and when each goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec import UNSET

from schemas.events import (
    EpochDestroyed,
    EpochOpened,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    TaskCreated,
    UpdateAdmitted,
)
from tests.judges.logbook import Journal


@dataclass(slots=True)
class _Epochs:
    """Of one sealed task: the epochs whose key is there, and those that the members of each unpublished round need."""

    next: int = 0
    held: set[int] = field(default_factory=set)
    needed: dict[int, set[int]] = field(default_factory=dict)

    def take(self, event: Any) -> Iterator[str]:
        """Follow one event of the aggregator's journal."""
        match event:
            case EpochOpened():
                if event.epoch != self.next:
                    yield f"epoch {event.epoch} opens, and the next is {self.next}"
                self.next = event.epoch + 1
                self.held.add(event.epoch)
            case EpochDestroyed():
                if event.epoch not in self.held:
                    yield f"epoch {event.epoch} is destroyed, and is not held"
                if event.reason == "over" and any(event.epoch in needed for needed in self.needed.values()):
                    yield f"epoch {event.epoch} is destroyed, and a round without a version needs it"
                self.held.discard(event.epoch)
            case UpdateAdmitted():
                if event.epoch not in self.held or event.metrics or event.fidelity is not None:
                    yield f"update {event.update} is admitted under no key, or tells what is sealed"
                self.needed.setdefault(event.round, set()).add(int(event.epoch or 0))
            case ModelPublished() | RoundAbandoned():
                self.needed.pop(event.round if event.round is not None else -1, None)


def key_faults(rounds: Journal, folder: Path) -> Iterator[str]:
    """Each key lies in `folder` while the journal holds its epoch, and has gone once, before the journal says so.

    To be asked of one task, when everybody who could make or delete keys has ended, however that was.
    """
    events = [*rounds.events()]
    opened = [event.epoch for event in events if isinstance(event, EpochOpened)]
    gone = [event for event in events if isinstance(event, EpochDestroyed)]
    destroyed = {event.epoch for event in gone}
    there = {int(file.name.split(".")[-2]) for file in folder.glob("*.key")}
    if not destroyed or len(destroyed) < len(gone):
        yield f"{len(destroyed)} keys were destroyed, which was said {len(gone)} times"
    if lost := [event.epoch for event in gone if event.reason == "lost"]:
        yield f"keys of epochs {lost} were lost, and nobody took them"
    # One may be made that nothing names yet, and one deleted that is still to be named.
    held = {*opened} - destroyed
    if there - held - {len(opened)} or len(held - there) > 1:
        yield f"keys of epochs {sorted(there)} are there, and the journal holds {sorted(held)}"


def epoch_faults(rounds: Journal) -> Iterator[str]:
    """Whatever is sealed under no key, or needs one that was destroyed."""
    tasks: dict[str, _Epochs] = {}
    for event in rounds.events():
        if (
            isinstance(event, Noticed)
            and isinstance(event.fact, TaskCreated)
            and event.fact.policy.tier in ("sealed", "masked")
        ):
            tasks[event.fact.task] = _Epochs()
        task = getattr(event, "task", None)
        if task in tasks:
            yield from (f"task {task}: {fault}" for fault in tasks[task].take(event))
        elif isinstance(event, EpochOpened | EpochDestroyed) or getattr(event, "epoch", UNSET) is not UNSET:
            yield f"task {task}: an epoch, and its task is neither sealed nor masked"
