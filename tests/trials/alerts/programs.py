"""Programs of Debian's packages: on the PATH, or unpacked below build/ without being installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.root import ROOT

FOLDER = ROOT / "build" / "debian"


def find_program(name: str, *, package: str) -> str | None:
    """Where it is; None where neither is to be had."""
    if (found := shutil.which(name)) is not None:
        return found
    return next((str(path) for path in unpack(package).glob(f"usr/bin/{name}")), None)


def unpack(package: str) -> Path:
    """The folder with what a package holds; empty where it cannot be had."""
    folder = FOLDER / package
    if not folder.exists() and shutil.which("apt-get") is not None:
        folder.mkdir(parents=True)
        # Installed, a server would start by itself, and listen where somebody else may.
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=False, capture_output=True)
        for file in folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(file), str(folder)], check=False)
            file.unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    return folder
