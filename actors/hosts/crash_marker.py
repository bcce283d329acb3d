"""The input that a worker has in hand, in memory that outlives it: what its supervisor finds after a sudden death."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Sequence
from typing import Self

from actors.runtime.guard import InputPlace

_LAYOUT = struct.Struct("=BBiqI")  # whether there is one, number of its topic, partition, offset, number of the fact


class CrashMarker:
    """Written by a worker before and after each input, for about a microsecond; read by whoever shares the file."""

    def __init__(self, descriptor: int, topics: Sequence[str]) -> None:
        self.descriptor = descriptor
        self._topics = list(topics)
        self._numbers = {topic: number for number, topic in enumerate(topics)}
        # Shared memory outlives a process that is killed outright, which no handler in it could take note of.
        self._memory = mmap.mmap(descriptor, _LAYOUT.size)

    @classmethod
    def new(cls, topics: Sequence[str]) -> Self:
        """One in a file without a name, so that it is gone with the last process that has it open."""
        with tempfile.TemporaryFile() as file:
            file.truncate(_LAYOUT.size)
            return cls(os.dup(file.fileno()), topics)

    def put(self, partition: int, at: InputPlace | None) -> None:
        """Note the input that is in hand now, or that none is."""
        if at is None:
            self._memory[0] = 0
        else:
            _LAYOUT.pack_into(self._memory, 0, 1, self._numbers[at.topic], partition, at.offset, at.number)

    def take(self) -> tuple[int, InputPlace] | None:
        """The partition and the input that were in hand; from now on none is."""
        there, topic, partition, offset, number = _LAYOUT.unpack_from(self._memory)
        self._memory[0] = 0
        return (partition, InputPlace(self._topics[topic], offset, number)) if there else None
