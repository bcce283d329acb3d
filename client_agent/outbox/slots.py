"""The large pieces of an outbox, each in a file of its own, so that a step writes what has changed and nothing else.

A piece is written into a slot that the index does not name, and the index that names it is written after it: a death
between the two leaves a slot that is still free. Slots are written over in place, which costs a copy; a new file of
five megabytes costs ten times that.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path

from client_agent.files import write_over

# What is no longer than this stays in the index itself.
SMALL_BYTES_MAX = 16 * 1024

Piece = bytes | int  # the bytes, or the number of the slot that holds them


class Slots:
    """The files `stem.0`, `stem.1`…: as many as pieces have been held at the same time, and one more."""

    def __init__(self, stem: Path, *, synced: bool) -> None:
        self._stem = stem
        self._synced = synced

    def put(self, data: bytes, *, taken: Collection[Piece | None]) -> Piece:
        """Hold `data`; what lies in the slots of `taken` stays as it is."""
        if len(data) <= SMALL_BYTES_MAX:
            return data
        slot = next(number for number in itertools.count() if number not in taken)
        write_over(self._path(slot), data, synced=self._synced)
        return slot

    def get(self, piece: Piece) -> bytes:
        """The bytes again. Raises FileNotFoundError."""
        return piece if isinstance(piece, bytes) else self._path(piece).read_bytes()

    def _path(self, slot: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{slot}")
