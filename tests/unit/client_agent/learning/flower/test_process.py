"""The process of an app: it needs no Flower to start, to end, and to be ended."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from client_agent.learning.flower.process import AppProcess
from client_agent.learning.foreign import LearnerError
from tests.root import ROOT

PATIENCE_S = float(os.environ.get("PATIENCE_S", "60"))
# Starts an app's process and says its number, then waits to be killed, or becomes another program.
STARTER = """
import os, sys, time
from pathlib import Path
from client_agent.learning.flower.process import AppProcess
process = AppProcess(Path(sys.executable), Path.cwd(), [])
print(process._start().pid, flush=True)
sys.stdin.readline()
os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"])
"""


@pytest.mark.parametrize("way", ["killed", "executes another"])
@pytest.mark.parametrize("is_stuck", [False, True], ids=["", "stuck"])
def test_an_app_ends_with_whoever_runs_it(tmp_path: Path, way: str, *, is_stuck: bool) -> None:
    """Also where that process is killed or becomes another, and the app is in code that lets no thread of it run."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    app = psutil.Process(int(starter.stdout.readline()))
    assert os.getpgid(app.pid) == app.pid
    give_up_s = time.monotonic() + PATIENCE_S / 2
    while not (guards := app.children()) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    if is_stuck:
        app.suspend()
    if way == "killed":
        starter.kill()
    else:
        starter.stdin.write(b"go on\n")
        starter.stdin.flush()
    give_up_s = time.monotonic() + PATIENCE_S
    while (left := [one for one in (app, *guards) if lives(one)]) and time.monotonic() < give_up_s:
        time.sleep(0.05)
    # One that outlived its device is not left to the machine as well.
    for process in left:
        process.kill()
    starter.kill()
    starter.wait()
    starter.stdin.close()
    starter.stdout.close()
    assert left == []


def lives(process: psutil.Process) -> bool:
    """Not one that has ended, of which its parent has not asked yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_closed_process_leaves_nothing(tmp_path: Path) -> None:
    """Closing ends the group at once, whatever the app is at."""
    process = AppProcess(Path(sys.executable), tmp_path, [])
    app = psutil.Process(process._start().pid)
    process.close()
    assert process.process is None
    assert not app.is_running()


def make_hostile(folder: Path, program: str) -> AppProcess:
    """An app whose environment has another program where Python should be."""
    python = folder / "python"
    python.write_text(f"#!{sys.executable}\nimport os, time\n{program}\n")
    python.chmod(0o700)
    return AppProcess(python, folder, [])


def test_an_app_that_does_not_read_has_the_time_of_its_lease(tmp_path: Path) -> None:
    """Guarantee: a request that is larger than a pipe holds is waited for no longer than its answer."""
    process = make_hostile(tmp_path, "time.sleep(600)")
    with pytest.raises(LearnerError, match=r"no answer within 0\.5 s"):
        process.ask("call", timeout_s=0.5, arrays={"weight": np.zeros(1 << 18)})
    assert process.process is None


def test_an_answer_is_bounded_before_it_is_held(tmp_path: Path) -> None:
    """Guarantee: an app that answers with sixty gigabytes costs its lease, and no memory."""
    process = make_hostile(tmp_path, "os.write(1, (1 << 35).to_bytes(8) + bytes(4))\ntime.sleep(600)")
    with pytest.raises(LearnerError, match="an answer of 34,359,738,368 bytes"):
        process.ask("call", timeout_s=60)
    assert process.process is None


def test_an_environment_without_flower_is_named(tmp_path: Path) -> None:
    """The first request fails with what is missing, and the process waits for the next one."""
    process = AppProcess(Path(sys.executable), tmp_path, [])
    with pytest.raises(LearnerError, match="No module named 'flwr'"):
        process.ask("open", timeout_s=60)
    first = process.process
    with pytest.raises(LearnerError, match="No module named 'flwr'"):
        process.ask("open", timeout_s=60)
    assert process.process == first
    process.close()
