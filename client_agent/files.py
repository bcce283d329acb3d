"""A file's content is replaced whole or not at all, whenever the process or the machine stops; but for `write_over`."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

from schemas.errors import FedlogError

_MAGIC = b"twof"
_HEADER = struct.Struct("<4sQII")  # magic, number, length, checksum; then the content


def write_durably(path: Path, data: bytes, *, mode: int = 0o644, synced: bool = True) -> None:
    """Replace `path` by `data`; with `synced` it is on the disk when this returns.

    Without `synced` it survives the death of the process, not that of the machine: for simulated devices.
    """
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    beside.replace(path)
    if synced:
        _sync_folder(path.parent)


def write_over(path: Path, data: bytes, *, synced: bool = True) -> None:
    """The same in place, which a death can tear: only for what nobody relies on before this has returned.

    To rename a new file into its place would make the file system write it to the disk at once, asked to or not.
    """
    if not path.exists():
        write_durably(path, data, synced=synced)
        return
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()
        if synced:
            file.flush()
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """A rename is durable once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DamagedError(FedlogError):
    """Neither copy of a file is whole; the message names it."""

    code = "file_damaged"


class DoubleBufferedFile:
    """A file that is replaced often: two copies by turns, of which the newer whole one counts.

    Each is written over in place while the other is whole: a death tears at most what nobody has been told of.
    """

    def __init__(self, path: Path, *, synced: bool = True) -> None:
        self._copies = (path, path.with_name(path.name + ".twin"))
        self._synced = synced
        self._number = 0

    def read(self) -> bytes | None:
        """The content; None where there is none yet. Raises DamagedError."""
        there = [copy for copy in self._copies if copy.exists()]
        whole = [found for copy in there if (found := _parsed(copy.read_bytes())) is not None]
        if there and not whole:
            raise DamagedError(f"{there[0]} is not whole")
        self._number, data = max(whole, default=(0, None))
        return data

    def write(self, data: bytes) -> None:
        """Replace the content; with `synced` it is on the disk when this returns."""
        number = self._number + 1
        header = _HEADER.pack(_MAGIC, number, len(data), _checksum(number, data))
        write_over(self._copies[number % 2], header + data, synced=self._synced)
        self._number = number  # not before: after a write that failed it is the same copy's turn again


def _parsed(framed: bytes) -> tuple[int, bytes] | None:
    """Number and content of a copy; None where it is torn. A file from before release 0.3 is its content, number 0."""
    if not framed.startswith(_MAGIC):
        return 0, framed
    if len(framed) < _HEADER.size:
        return None
    _, number, size, checksum = _HEADER.unpack_from(framed)
    data = framed[_HEADER.size : _HEADER.size + size]
    return (number, data) if len(data) == size and _checksum(number, data) == checksum else None


def _checksum(number: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(number.to_bytes(8, "little")))
