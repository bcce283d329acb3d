"""The bytes of an upload until they stand in the log: a short body that comes at once in memory, any other on disk.

To write a short body, read it again and empty its file costs more than its digest. Memory is for bodies that come in
one go, and bounded for all uploads together, so that neither slow devices nor long bodies make a gateway larger.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from schemas.identifiers import CHUNK_BYTES

# A million parameters in int8, which is what most updates are shorter than.
SHORT_BYTES_MAX = 2 * CHUNK_BYTES
MEMORY_BYTES_MAX = 4 * 2**20
# Memory is soon free again, or slow devices have it; a file costs more than the first, and nobody waits for the second:
# only while some of it comes back in each WAIT_S, and never for long.
WAIT_S, WAIT_S_MAX = 0.25, 2.0
WAITING_MAX = 64


@dataclass(slots=True)
class Memory:
    """Room in memory for the bodies of all uploads of a gateway; whoever waits for some gets it in turn."""

    free_bytes: int = MEMORY_BYTES_MAX
    _waiting: deque[tuple[int, asyncio.Future[None]]] = field(default_factory=deque)
    _given: int = 0  # how often some has come back

    async def take(self, size: int) -> bool:
        """Whether there is room for so many bytes, now or soon; it is taken then."""
        if size > SHORT_BYTES_MAX:
            return False
        if self._waiting or size > self.free_bytes:
            return await self._wait(size)
        self.free_bytes -= size
        return True

    def give(self, size: int) -> None:
        """Give room back."""
        self.free_bytes += size
        self._given += size > 0
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            taken, turn = self._waiting.popleft()
            self.free_bytes -= taken
            turn.set_result(None)

    async def _wait(self, size: int) -> bool:
        if len(self._waiting) >= WAITING_MAX:
            return False
        loop = asyncio.get_running_loop()
        mine, give_up_s, given = (size, loop.create_future()), loop.time() + WAIT_S_MAX, -1
        self._waiting.append(mine)
        try:
            while given != self._given and loop.time() < give_up_s:
                given = self._given
                await asyncio.wait([mine[1]], timeout=WAIT_S)
                if mine[1].done():
                    return True
        except asyncio.CancelledError:
            # Its turn had come, and nobody will use it.
            if mine[1].done():
                self.give(size)
            raise
        finally:
            if not mine[1].done():
                self._waiting.remove(mine)
                # Whoever stood behind a larger one may have room.
                self.give(0)
        return False


@dataclass(slots=True, eq=False)
class Holding:
    """The bytes of one upload, which has `length` in the end; `offset`: how many have come."""

    path: Path
    memory: Memory
    length: int
    offset: int = 0
    is_on_disk: bool = False
    _chunks: list[bytes] = field(default_factory=list)  # of CHUNK_BYTES each
    _parts: list[bytes] = field(default_factory=list)  # of the next one
    _taken_bytes: int = 0
    _file: IO[bytes] | None = None
    _digest: Any = field(default_factory=hashlib.sha256)
    _digested: int = 0

    async def fits_memory(self) -> bool:
        """Whether it is in memory from now on, because it is short and others have left room."""
        if not self.is_on_disk and not self._taken_bytes and await self.memory.take(self.length):
            self._taken_bytes = self.length
        return self._taken_bytes > 0

    @contextmanager
    def open(self) -> Iterator[None]:
        """Bytes may be written while this is entered."""
        if not self.is_on_disk:
            yield
            return
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            self._file = file
            try:
                yield
            finally:
                self._file = None

    def write(self, part: bytes) -> None:
        """More bytes, behind those that are there."""
        if self._file is not None:
            self._file.write(part)
            # Straight to the system: what was counted has to be there when the process is killed.
            self._file.flush()
        else:
            self._keep(part)
        if self._digested == self.offset:
            self._digest.update(part)
            self._digested += len(part)
        self.offset += len(part)

    def store(self) -> None:
        """Put it on the disk, where it outlives this process."""
        self.path.touch(mode=0o600)
        with self.path.open("wb") as file:
            file.writelines([*self._chunks, *self._parts])
        self.is_on_disk = True
        self._leave_memory()

    def restart(self) -> None:
        """Forget what has come."""
        self.empty()
        self.offset = self._digested = 0
        self._digest = hashlib.sha256()

    def empty(self) -> None:
        """Let go of the bytes: they stand in the log, or nobody wants them."""
        self._leave_memory()
        if self.is_on_disk:
            self.path.write_bytes(b"")

    def end(self) -> None:
        """Leave nothing behind."""
        self._leave_memory()
        self.path.unlink(missing_ok=True)

    def read(self, first: int, count: int) -> list[bytes]:
        """So many chunks of a body that has come, from this one on; as many as there are."""
        if not self.is_on_disk:
            return [*self._chunks, *([b"".join(self._parts)] if self._parts else [])][first : first + count]
        with self.path.open("rb") as file:
            file.seek(first * CHUNK_BYTES)
            return [chunk for _ in range(count) if (chunk := file.read(CHUNK_BYTES))]

    @property
    def is_digested(self) -> bool:
        """Whether its digest costs nothing any more."""
        return self._digested == self.offset

    def digest(self) -> bytes:
        """The sha256 of all that has come."""
        # After a restart nothing is known of what an earlier process has received.
        if not self.is_digested:
            with self.path.open("rb") as file:
                self._digest = hashlib.file_digest(file, "sha256")
            self._digested = self.offset
        digest: bytes = self._digest.digest()
        return digest

    def _keep(self, part: bytes) -> None:
        kept = 0
        while kept < len(part):
            room = CHUNK_BYTES - (self.offset + kept) % CHUNK_BYTES
            self._parts.append(piece := part[kept : kept + room])
            kept += len(piece)
            # As records will need them, so that no byte is copied twice.
            if len(piece) == room:
                self._chunks.append(b"".join(self._parts))
                self._parts = []

    def _leave_memory(self) -> None:
        self.memory.give(self._taken_bytes)
        self._taken_bytes = 0
        self._chunks, self._parts = [], []
