"""What the selector knows of each device, in rows of one block of bytes: 130 bytes a device, most of them its name.

A task has devices by the million. Objects of their own cost half as much again, a walk of the cycle collector now and
then, and seconds for each digest and restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

NO_ROUND = -1
_ROW = Struct("<QIi")
_SENT = Struct("<Q")  # the beginning of a row
_TAKEN = Struct("<Ii")  # the end of a row
_TAKEN_AT = _ROW.size - _TAKEN.size


class Device(NamedTuple):
    """One device in one task: when the check-in of its newest lease was sent, and the newest round that took it."""

    sent_ms: int = 0
    participations: int = 0
    round: int = NO_ROUND


@dataclass(slots=True)
class Devices:
    """Devices by id: `places` numbers them in the order of their first lease, `rows` holds 16 bytes for each."""

    places: dict[str, int] = field(default_factory=dict)
    rows: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.places)

    def get(self, device: str) -> Device | None:
        """The device; None for one that has never had a lease."""
        place = self.places.get(device)
        return None if place is None else Device._make(_ROW.unpack_from(self.rows, place * _ROW.size))

    def note_lease(self, device: str, sent_ms: int) -> None:
        """A lease was granted on a check-in that was sent at this time; the first one makes the device known."""
        # Only the beginning of the row is written, so that participations stay whatever the device says.
        _SENT.pack_into(self.rows, self._find_row(device), sent_ms)

    def take_part(self, device: str, round_id: int) -> None:
        """A round took an update of the device."""
        at = self._find_row(device) + _TAKEN_AT
        participations, _ = _TAKEN.unpack_from(self.rows, at)
        _TAKEN.pack_into(self.rows, at, participations + 1, round_id)

    def items(self) -> Iterator[tuple[str, Device]]:
        """Every device, in the order in which they became known."""
        return zip(self.places, map(Device._make, _ROW.iter_unpack(self.rows)), strict=True)

    def _find_row(self, device: str) -> int:
        # Also for a participation without a lease here: one that is not counted would not be paid for.
        if device not in self.places:
            self.places[device] = len(self.places)
            self.rows += _ROW.pack(*Device())
        return self.places[device] * _ROW.size
