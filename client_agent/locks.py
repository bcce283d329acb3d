"""Locks on files: two processes that use the same outboxes would overwrite each other's updates.

A lock is held by open files and ends with the processes that hold it, however they die; nothing is left to clean up.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from schemas.errors import EXIT_USAGE, FedlogError


class FolderInUse(FedlogError):
    """Another process works in the same folder; the message names it."""

    exit_code = EXIT_USAGE
    code = "folder_in_use"


class Lock:
    """A lock on the file `path`, held until `release` or the end of the process. Raises FolderInUse.

    With `shared` others may hold it too, if they share it as well: the processes of one fleet do.
    """

    def __init__(self, path: Path, *, shared: bool = False) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._take(fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except FolderInUse:
            self.release()
            raise
        if not shared:
            # For whoever comes second: a lock alone does not say who holds it.
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def descriptor(self) -> int:
        """The open file: a process that inherits it holds the lock as well."""
        return self._descriptor

    def share(self) -> None:
        """Let the processes in that this one starts. Raises FolderInUse."""
        self._take(fcntl.LOCK_SH)

    def release(self) -> None:
        """Let others in; a second call changes nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _take(self, kind: int) -> None:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(self._descriptor, 20, 0).decode(errors="replace") or "unknown"
            raise FolderInUse(
                f"{self._path.parent} is in use for this task by process {pid}, or by one that it started; "
                "stop that one, or take another folder"
            ) from error
