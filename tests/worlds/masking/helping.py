"""Helpers beside a stage, as another organisation would run them: a process each, with a folder of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.root import ROOT
from tests.worlds.stage import CLI, Stage


@contextmanager
def helping(stage: Stage, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A helper that has its own folder and the operator's public key, and nothing else of anybody's."""
    words = ["--operator-public-key", stage.key.public_key.hex(), "--folder", str(folder / "elsewhere")]
    with (folder / "helper.log").open("ab") as log:
        process = subprocess.Popen(
            [*CLI, *stage.options, *words, "helper", "run", "--state", str(folder / "state")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
