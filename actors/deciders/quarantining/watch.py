"""What an aggregator remembers of devices that stood apart: of late, by rounds, and who is let in no more.

Bounded by the devices that have: one that agrees with the others for a whole window is forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from schemas.events import (
    DeviceQuarantined,
    MembersCompared,
    QuarantineLifted,
    TaskCreated,
    UpdateAdmitted,
    name_unit,
)


@dataclass(slots=True)
class Suspect:
    """In which of the last rounds that a device was in it stood apart: a bit each, the newest lowest; and their ids.

    `last`: its update in the newest of them, which names the body.
    """

    apart: int = 0
    rounds: list[int] = field(default_factory=list)
    last: UpdateAdmitted | None = None

    def add(self, round_id: int, *, is_apart: bool, window: int) -> None:
        """One round more, and of no more than the window."""
        self.apart = (self.apart << 1 | is_apart) & ((1 << window) - 1)
        if is_apart:
            self.rounds.append(round_id)
        del self.rounds[: len(self.rounds) - self.apart.bit_count()]


@dataclass(slots=True)
class Watch:
    """By device, or its subject where devices are enrolled. `quarantined`: with which round it came so far."""

    suspects: dict[str, Suspect] = field(default_factory=dict)
    quarantined: dict[str, int] = field(default_factory=dict)

    def note_round(self, compared: MembersCompared, members: Mapping[str, UpdateAdmitted], *, window: int) -> None:
        """Of each member of a round, by device or subject, whether it stood apart."""
        apart = {name_unit(anomaly) for anomaly in compared.anomalies}
        for unit in members:
            suspect = self.suspects.get(unit)
            # Most have never stood apart, and of them nothing is kept.
            if unit in self.quarantined or (suspect is None and unit not in apart):
                continue
            suspect = self.suspects.setdefault(unit, Suspect())
            suspect.add(compared.round, is_apart=unit in apart, window=window)
            suspect.last = members[unit] if unit in apart else suspect.last
            if not suspect.apart:
                del self.suspects[unit]

    def quarantine(self, event: DeviceQuarantined) -> None:
        """From here on it is out, and what led to it is told."""
        self.suspects.pop(name_unit(event), None)
        self.quarantined[name_unit(event)] = event.round

    def lift(self, event: QuarantineLifted) -> None:
        """It takes part again, as if nothing had been."""
        self.quarantined.pop(name_unit(event), None)

    def is_lifted_by(self, event: QuarantineLifted) -> bool:
        """Whether the word is about the quarantine that there is, and no copy of one about an earlier."""
        return self.quarantined.get(name_unit(event)) == event.round


class Watched(Protocol):
    """A task, as far as it is asked here; `pending` are its rounds that are proposed."""

    created: TaskCreated
    watch: Watch | UnsetType
    pending: list[Any]


def note_watched(task: Watched, event: MembersCompared | DeviceQuarantined) -> None:
    """Fold one event into what is remembered."""
    assert task.watch is not UNSET
    if isinstance(event, DeviceQuarantined):
        task.watch.quarantine(event)
        return
    asked = task.created.policy.quarantine
    assert asked is not UNSET
    [members] = [pending.members for pending in task.pending if pending.id == event.round]
    task.watch.note_round(event, members, window=asked.window)
