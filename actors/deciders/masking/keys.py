"""What an aggregator keeps of the keys of epochs, in sealed and masked tasks, and of versions that were co-signed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from msgspec import UNSET, UnsetType

from schemas.events import CosignatureHeard, EpochDestroyed, EpochOpened, MaskKeyOffered


@dataclass(slots=True)
class Epoch:
    """A key to which updates are sealed: the version at which it began, and since when another one has taken over."""

    version: int
    retired_ms: int | None = None


@dataclass(slots=True)
class Epochs:
    """Of a sealed task: those whose key is held, by number, and the number of the next."""

    held: dict[int, Epoch] = field(default_factory=dict)
    next: int = 0

    @property
    def newest(self) -> Epoch | None:
        """The one that leases name, where its key is still there."""
        return self.held.get(self.next - 1)

    def retire(self, time_ms: int) -> None:
        """No lease names any of these from now on."""
        for epoch in self.held.values():
            epoch.retired_ms = time_ms if epoch.retired_ms is None else epoch.retired_ms


class Keyed(Protocol):
    """What this module looks at of an aggregator's task."""

    version: int
    epochs: Epochs | UnsetType
    offered: dict[int, bytes] | UnsetType
    cosigned: dict[int, int] | UnsetType


KeyEvent = EpochOpened | EpochDestroyed | MaskKeyOffered | CosignatureHeard


def fold_key(task: Keyed, event: KeyEvent, *, time_ms: int) -> None:
    """Take note of one event about keys."""
    assert task.epochs is not UNSET
    match event:
        case CosignatureHeard():
            task.cosigned = {**(task.cosigned or {}), event.helper: event.version}
        case MaskKeyOffered():
            task.offered = {**(task.offered or {}), event.helper: event.statement}
        case EpochDestroyed():
            task.epochs.held.pop(event.epoch, None)
        case EpochOpened():
            task.epochs.retire(time_ms)
            task.epochs.held[event.epoch] = Epoch(task.version)
            task.offered = UNSET if task.offered is UNSET else {}
            task.epochs.next = event.epoch + 1
