"""What the selector knows of each device, in rows of one block of bytes: 170 bytes a device, most of them its name.

A task has devices by the million. Objects of their own cost half as much again, a walk of the cycle collector now and
then, and seconds for each digest and restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

NO_ROUND = -1
_ROW = Struct("<32sIi")
_TAKEN = Struct("<Ii")  # the end of a row
_TAKEN_AT = _ROW.size - _TAKEN.size


class Device(NamedTuple):
    """One device in one task; `round` is the newest that took an update of it."""

    public_key: bytes
    participations: int = 0
    round: int = NO_ROUND


@dataclass(slots=True)
class Devices:
    """Devices by id: `places` numbers them in the order of their first lease, `rows` holds 40 bytes for each."""

    places: dict[str, int] = field(default_factory=dict)
    rows: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.places)

    def get(self, device: str) -> Device | None:
        """The device; None for one that has never had a lease."""
        place = self.places.get(device)
        return None if place is None else Device._make(_ROW.unpack_from(self.rows, place * _ROW.size))

    def add(self, device: str, public_key: bytes) -> None:
        """Its first lease binds the device to its key; later ones change nothing."""
        # A row is written once; participations are packed over its end.
        if device not in self.places:
            self.places[device] = len(self.places)
            self.rows += _ROW.pack(public_key, 0, NO_ROUND)

    def take_part(self, device: str, round_id: int) -> None:
        """A round took an update of the device. Raises KeyError for one that is not here."""
        at = self.places[device] * _ROW.size + _TAKEN_AT
        # Only the end of the row is written, so that the key in it can never change.
        participations, _ = _TAKEN.unpack_from(self.rows, at)
        _TAKEN.pack_into(self.rows, at, participations + 1, round_id)

    def items(self) -> Iterator[tuple[str, Device]]:
        """Every device, in the order of their first lease."""
        return zip(self.places, map(Device._make, _ROW.iter_unpack(self.rows)), strict=True)
