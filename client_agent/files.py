"""Files whose content survives a crash: replaced whole or not at all, whenever the process or the machine stops.

Identities are written with `write_durably`, the index of an outbox in a `DoubleBufferedFile`, its slots with
`overwrite`, the one function here that a crash can interrupt half-way. All of them are their owner's alone, in folders
that nobody else may enter: a device's update before clipping and noise is as private as its data.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from pathlib import Path

from schemas.errors import EXIT_USAGE, FedlogError

_MAGIC = b"twof"
_HEADER = struct.Struct("<4sQII")  # magic, number, length, checksum; then the content


class FolderTooOpen(FedlogError):
    """Others may look into a folder that holds secrets; the message names it and says what to do."""

    exit_code = EXIT_USAGE
    code = "folder_too_open"


def open_private_folder(folder: Path) -> None:
    """Create `folder` so that only its owner may look into it; one that is more open is closed to others.

    Raises FolderTooOpen where that cannot be: the folder is somebody else's, or shared on purpose, as /tmp is.
    """
    if not folder.parent.exists():
        open_private_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    mode = folder.stat().st_mode
    if not mode & 0o077:
        return
    # A sticky folder is everybody's, and closing it would break the programs of all others.
    if mode & stat.S_ISVTX:
        raise FolderTooOpen(f"{folder} is shared by all users of this machine; name a folder inside it instead")
    # Closed and not refused: `mkdir device; cp data.npz device` is how people begin, and leaves it open.
    try:
        folder.chmod(stat.S_IMODE(mode) & ~0o077)
    except OSError as error:
        raise FolderTooOpen(f"{folder} can be read by others ({error.strerror}); do: chmod 700 {folder}") from error


def write_durably(path: Path, data: bytes, *, mode: int = 0o600, synced: bool = True) -> None:
    """Replace `path` by `data`; with `synced` it is on the disk when this returns.

    Without `synced` it survives the death of the process, not that of the machine: for simulated devices.
    """
    replacement = path.with_name(path.name + ".new")
    descriptor = os.open(replacement, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        # What a crash has left of an earlier try may have another mode.
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        if synced:
            os.fsync(file.fileno())
    replacement.replace(path)
    # A rename is on the disk when its folder is.
    if synced:
        _sync_folder(path.parent)


def overwrite(path: Path, data: bytes, *, synced: bool = True) -> None:
    """The same in place, where a crash can leave half of it: only for content that nothing names before this returns.

    Renaming a new file into place would make the file system write it to the disk at once, with or without `synced`.
    """
    if not path.exists():
        write_durably(path, data, synced=synced)
        return
    with path.open("r+b") as file:
        file.write(data)
        # Only after the write, so that the blocks of the file are reused and not allocated again.
        file.truncate()
        if synced:
            file.flush()
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class DamagedError(FedlogError):
    """Neither copy of a file is whole; the message names it."""

    code = "file_damaged"


class DoubleBufferedFile:
    """A file that is replaced often: two copies written in turn, of which the newer whole one counts.

    Each is overwritten in place while the other is whole, so that a crash costs at most the write that it interrupts.
    """

    def __init__(self, path: Path, *, synced: bool = True) -> None:
        self._copies = (path, path.with_name(path.name + ".twin"))
        self._synced = synced
        self._number = 0

    def read(self) -> bytes | None:
        """The content; None where there is none yet. Raises DamagedError."""
        existing = [path for path in self._copies if path.exists()]
        whole = [copy for path in existing if (copy := _parse_copy(path.read_bytes())) is not None]
        if existing and not whole:
            raise DamagedError(f"{existing[0]} is not whole")
        self._number, data = max(whole, default=(0, None))
        return data

    def write(self, data: bytes) -> None:
        """Replace the content; with `synced` it is on the disk when this returns."""
        number = self._number + 1
        header = _HEADER.pack(_MAGIC, number, len(data), _compute_checksum(number, data))
        overwrite(self._copies[number % 2], header + data, synced=self._synced)
        # Only now: after a write that failed it is the same copy's turn again.
        self._number = number


def _parse_copy(framed: bytes) -> tuple[int, bytes] | None:
    """Number and content of a copy; None where it is not whole."""
    if not framed.startswith(_MAGIC) or len(framed) < _HEADER.size:
        return None
    _, number, size, checksum = _HEADER.unpack_from(framed)
    data = framed[_HEADER.size : _HEADER.size + size]
    # The checksum covers the number too: half of an older header must not make a copy the newer one.
    return (number, data) if len(data) == size and _compute_checksum(number, data) == checksum else None


def _compute_checksum(number: int, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(number.to_bytes(8, "little")))
