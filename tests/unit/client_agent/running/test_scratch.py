"""Scratch folders: they end with their process, and those of killed ones with the next start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from client_agent.running.scratch import make_scratch, scratch_folder

HOLDS = """
import os, sys
from pathlib import Path
from client_agent.running.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "outbox").mkdir()
    os.kill(os.getpid(), 9)
"""


def test_the_scratch_folders_of_the_dead_are_removed(tmp_path: Path) -> None:
    """Guarantee: what a killed process has left is gone with the next start; those of the living and of others stay."""
    subprocess.run([sys.executable, "-c", HOLDS, str(tmp_path)], check=False)
    (ruin,) = tmp_path.iterdir()
    for name in (f"fl-{os.getpid()}-abc", "fl-x-abc", "other"):
        (tmp_path / name / "r").mkdir(parents=True)
    made = make_scratch(tmp_path)
    assert made.is_dir()
    assert not ruin.exists()
    assert {f"fl-{os.getpid()}-abc", "fl-x-abc", "other"} < {path.name for path in tmp_path.iterdir()}


def test_a_scratch_folder_ends_with_its_block(tmp_path: Path) -> None:
    """Guarantee: an exception leaves nothing behind either."""
    try:
        with scratch_folder(tmp_path) as folder:
            (folder / "file").touch()
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert list(tmp_path.iterdir()) == []
