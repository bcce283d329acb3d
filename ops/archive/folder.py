"""An archive in a folder of this machine, or of one that it mounts.

A file is written beside its name, brought to the disk and renamed, and then its folder is. Processes that write into
one archive take turns by a lock, file by file; one that dies leaves the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from actors.disk import sync_folder
from client_agent.files import write_durably
from ops.archive.stores import StoreAway, Stored, StoreError, StoreFull, StoreRefused

LOCK = ".lock"
UNFINISHED = ".new"
# Readers of an archive need not be who writes it.
MODE = 0o644
_ASK_EVERY_S = 0.05
LOCKED_S = 60.0
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_FOLDER = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, *_NO_FOLDER)


class Folder:
    """A `Store` in a folder, which is made where it is not there yet."""

    def __init__(self, root: Path, *, locked_s: float = LOCKED_S) -> None:
        self._root, self._locked_s = root, locked_s

    @property
    def address(self) -> str:
        """The folder."""
        return str(self._root)

    def list_sizes(self, beginning: str = "") -> Iterator[tuple[str, int]]:
        """Files by their names; what somebody has begun to write and not finished is cleared away."""
        with self._turning(), self._explaining():
            found = list[tuple[str, int]]()
            for path in self._root.rglob("*"):
                name = path.relative_to(self._root).as_posix()
                if not path.is_file() or not name.startswith(beginning) or name.startswith("."):
                    continue
                # Under the lock nobody is about to finish it.
                if name.endswith(UNFINISHED):
                    path.unlink()
                else:
                    found.append((name, path.stat().st_size))
        yield from found

    def read(self, name: str) -> Stored | None:
        """A file, marked by its digest."""
        with self._explaining():
            try:
                data = (self._root / name).read_bytes()
            except FileNotFoundError:
                return None
        return Stored(data, hashlib.sha256(data).hexdigest())

    def write(self, name: str, data: bytes) -> None:
        """Whole, and on the disk with its name when this returns."""
        with self._turning():
            self._put(name, data)

    def replace(self, name: str, data: bytes, *, over: Stored | None) -> bool:
        """The same where nobody was quicker."""
        with self._turning():
            there = self.read(name)
            if (there and there.mark) != (over and over.mark):
                return False
            self._put(name, data)
        return True

    def delete(self, name: str) -> None:
        """Gone for good when this returns."""
        # Two who clean up at once both succeed.
        path = self._root / name
        with self._turning(), self._explaining(), contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)

    def _put(self, name: str, data: bytes) -> None:
        path = self._root / name
        with self._explaining():
            self._make_folder(path.parent)
            try:
                write_durably(path, data, mode=MODE)
            except OSError:
                # What was begun would keep a full disk full.
                with contextlib.suppress(OSError):
                    path.with_name(path.name + UNFINISHED).unlink(missing_ok=True)
                raise

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        # A file that is on the disk in a folder that is not is lost with the power.
        sync_folder(folder.parent)

    @contextlib.contextmanager
    def _turning(self) -> Iterator[None]:
        """Alone among those who write here."""
        with self._explaining():
            self._make_folder(self._root)
            lock = os.open(self._root / LOCK, os.O_RDWR | os.O_CREAT, MODE)
        try:
            self._wait_for(lock)
            yield
        finally:
            os.close(lock)

    def _wait_for(self, lock: int) -> None:
        give_up_s = time.monotonic() + self._locked_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > give_up_s:
                    raise StoreAway(
                        f"{self._root}: another process has held {LOCK} for {self._locked_s:g} s."
                    ) from None
                time.sleep(_ASK_EVERY_S)
            except OSError as error:
                raise self._explain(error) from error

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._explain(error) from error

    def _explain(self, error: OSError) -> StoreError:
        what = f"{error.filename or self._root}: {error.strerror}"
        if error.errno in _FULL:
            return StoreFull(f"{what}. What is there stays; make room, and the rest is written.")
        if error.errno in _REFUSED:
            return StoreRefused(f"{what}. Whoever runs this has to be able to write there.")
        return StoreAway(f"{what}.")
