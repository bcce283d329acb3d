"""What has to be on the disk before anybody is told of it; for keys of epochs, and what a helper has said."""

from __future__ import annotations

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Return once the names in this folder are on the disk: a file that is, and has no name, is lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
