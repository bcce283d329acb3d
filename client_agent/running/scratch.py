"""Scratch folders that go with their process, however it dies: what a killed one has left, the next one removes."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil


def make_scratch(place: Path) -> Path:
    """A new folder for this process in `place`, from which those of the dead are gone."""
    _remove_ruins(place)
    return Path(tempfile.mkdtemp(prefix=f"fl-{os.getpid()}-", dir=place))


@contextlib.contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """The same for as long as the block runs."""
    folder = make_scratch(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_ruins(place: Path) -> None:
    # Who kills a process leaves nobody to tidy up for it.
    for folder in place.glob("fl-*-*"):
        pid = folder.name.split("-")[1]
        # Another user's are left to that user, and one whose pid is in use again to a later start.
        with contextlib.suppress(FileNotFoundError):
            if pid.isdecimal() and not psutil.pid_exists(int(pid)) and folder.stat().st_uid == os.getuid():
                shutil.rmtree(folder, ignore_errors=True)
