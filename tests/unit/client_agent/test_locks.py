"""Locks: one process a folder, and whoever comes second is told by whom."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from client_agent.locks import FolderInUse, Lock
from tests.root import ROOT

HOLDER = """
import sys
from pathlib import Path
from client_agent.locks import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_ends_with_the_process_that_holds_it(tmp_path: Path) -> None:
    """Guarantee: while another process holds it its pid is named, and a kill -9 leaves nothing to clean up."""
    path = tmp_path / "digits.lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        for shared in (False, True):
            with pytest.raises(FolderInUse, match=rf"process {holder.pid}\b"):
                Lock(path, shared=shared)
        holder.kill()
        holder.wait()
    Lock(path).release()
    assert path.stat().st_mode & 0o077 == 0


def test_a_shared_lock_keeps_others_out_until_the_last_one_ends(tmp_path: Path) -> None:
    """Guarantee: while a process of a killed fleet lives on, no other fleet begins."""
    path = tmp_path / "sim0.digits.lock"
    first = Lock(path)
    with pytest.raises(FolderInUse, match=rf"process {os.getpid()}\b"):
        Lock(path, shared=True)
    first.share()
    child = Lock(path, shared=True)
    first.release()
    first.release()
    with pytest.raises(FolderInUse):
        Lock(path)
    child.release()
    Lock(path).release()
