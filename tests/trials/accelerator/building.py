"""Compiles the device of `apart.cpp` against the torch that is installed, and packs it so that torch finds it.

    python -m tests.trials.accelerator.building

With its folder on PYTHONPATH each process that imports torch has the device `privateuseone`.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import torch
from torch.utils import cpp_extension

from ops.console import note
from tests.root import ROOT

HERE = Path(__file__).parent
FOLDER = ROOT / "build" / "accelerator"
SOURCES = ("memory.h", "apart.cpp", "package.py")


def build(folder: Path = FOLDER) -> None:
    """Fill the folder, unless it holds what these sources and this torch give. Raises RuntimeError of the compiler."""
    told = torch.__version__.encode() + b"".join((HERE / name).read_bytes() for name in SOURCES)
    stamp, digest = folder / "stamp", hashlib.sha256(told).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    note("Compiling a device for torch; this takes a minute.")
    shutil.rmtree(folder, ignore_errors=True)
    objects, package = folder / "objects", folder / "apart_device"
    objects.mkdir(parents=True)
    package.mkdir()
    made = cpp_extension.load(
        "_apart", [str(HERE / "apart.cpp")], extra_cflags=["-O1"], build_directory=str(objects), is_python_module=False
    )
    shutil.copy(str(made or objects / "_apart.so"), package / "_apart.so")
    shutil.copy(HERE / "package.py", package / "__init__.py")
    about = folder / "apart_device-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: apart-device\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[torch.backends]\napart = apart_device:load\n")
    stamp.write_text(digest)


if __name__ == "__main__":
    build()
