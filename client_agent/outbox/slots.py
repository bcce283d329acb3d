"""The large pieces of an outbox, each in a file of its own, so that a step writes only what has changed.

The outbox puts a piece into a slot that its index does not name, and afterwards writes the index that names it: a crash
between the two leaves a slot that is still free. Slots are overwritten in place, which costs a copy; a new file of five
megabytes costs ten times that.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path

from client_agent.files import overwrite

# Shorter pieces stay in the index itself: a file costs more than these bytes.
SMALL_BYTES_MAX = 16 * 1024

Piece = bytes | int  # the bytes, or the number of the slot that holds them


class Slots:
    """The files `stem.0`, `stem.1`…: as many as there were large pieces at the same time, and one more."""

    def __init__(self, stem: Path, *, synced: bool) -> None:
        self._stem = stem
        self._synced = synced

    def put(self, data: bytes, *, taken: Collection[Piece | None]) -> Piece:
        """Store `data` in a slot that is not in `taken`."""
        if len(data) <= SMALL_BYTES_MAX:
            return data
        # The lowest free number, so that files are used again and do not pile up.
        slot = next(number for number in itertools.count() if number not in taken)
        overwrite(self._get_path(slot), data, synced=self._synced)
        return slot

    def get(self, piece: Piece) -> bytes:
        """The bytes again. Raises FileNotFoundError."""
        return piece if isinstance(piece, bytes) else self._get_path(piece).read_bytes()

    def _get_path(self, slot: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{slot}")
