"""The embedded broker's head start: Java's classes as they are once loaded, and the first file of a formatted folder.

`ops.processes.broker.prepare` makes it beside Kafka's jars in the user's cache, where it goes when they go; a start
uses what it finds. It is named after all that it was made from: one of other jars or another Java is never used.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import EXIT_UNAVAILABLE, FedlogError

_PREFIX = "fedlog-"
# A cache that Java refuses is no news to anybody: it starts without.
_QUIET = "-Xlog:aot*=off,cds*=off"


class HeadStartFailed(FedlogError):
    """The head start could not be made; brokers start without it."""

    exit_code = EXIT_UNAVAILABLE
    code = "head_start_failed"


@dataclass(frozen=True, slots=True)
class HeadStart:
    """What lies in a folder, if it was made."""

    folder: Path

    @classmethod
    def find(cls, java: Path, jars: Sequence[Path], *, flags: Sequence[str]) -> HeadStart:
        """The one of this Java with these jars, made or not."""
        told = [*flags, *(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in (java, *jars))]
        name = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
        return cls(jars[0].parent.parent / (_PREFIX + name))

    @property
    def classes(self) -> Path:
        """Java's classes."""
        return self.folder / "classes.aot"

    @property
    def checkpoint(self) -> Path:
        """What Kafka's own tool puts into a folder that it formats, the same each time."""
        return self.folder / "bootstrap.checkpoint"

    @property
    def is_made(self) -> bool:
        """Whether a start can use it."""
        return self.classes.is_file() and self.checkpoint.is_file()

    @property
    def flags(self) -> list[str]:
        """What Java is told to use it."""
        return [f"-XX:AOTCache={self.classes}", _QUIET] if self.is_made else []

    def discard(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def make(self) -> Iterator[Path | None]:
        """A folder to put it in, or None where it is made; at the end it is in its place, and older ones are gone.

        Raises HeadStartFailed where the cache cannot be written.
        """
        with self._lock():
            if self.is_made:
                yield None
                return
            # Those that a kill has left, and those of other releases: each is as large as all the jars together.
            for other in self.folder.parent.glob(f"{_PREFIX}*"):
                if other.is_dir():
                    shutil.rmtree(other, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}new-", dir=self.folder.parent) as new:
                yield Path(new)
                _sync(Path(new))
                # A start finds all of it or nothing.
                Path(new).rename(self.folder)
                # What the context removes at its end has another name now.
                Path(new).mkdir(mode=0o700)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Of two at once the second waits, and finds what the first has made."""
        try:
            descriptor = os.open(self.folder.parent / f"{_PREFIX}lock", os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError as error:
            raise HeadStartFailed(f"{self.folder.parent} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def assemble(java: Sequence[str], record: Path, *, into: Path) -> None:
    """Have Java make its cache of classes from what it has recorded. Raises HeadStartFailed."""
    words = [*java[:-2], "-XX:AOTMode=create", f"-XX:AOTConfiguration={record}", f"-XX:AOTCache={into}", *java[-2:]]
    done = subprocess.run(words, capture_output=True, start_new_session=True, umask=0o077, check=False)
    if done.returncode != 0 or not into.is_file():
        said = (done.stdout + done.stderr).decode(errors="replace").splitlines()
        raise HeadStartFailed("Java could not make its cache of classes:\n" + "\n".join(said[-5:]))


def _sync(folder: Path) -> None:
    """On the disk before it has its name, or a machine that stops could leave half of it."""
    for file in folder.iterdir():
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
