"""The process of an app: it needs no Flower to start, to end, and to be ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from client_agent.learning.flower.process import AppProcess
from client_agent.learning.foreign import LearnerError
from tests.root import ROOT

# Starts an app's process and says its number, then waits to be killed.
STARTER = """
import sys, time
from pathlib import Path
from client_agent.learning.flower.process import AppProcess
process = AppProcess(Path(sys.executable), Path.cwd(), [])
print(process._start().pid, flush=True)
time.sleep(600)
"""


def test_an_app_ends_with_whoever_runs_it(tmp_path: Path) -> None:
    """Also where that process is killed: the app reads the end of its requests, and ends its whole group."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, start_new_session=True
    )
    assert starter.stdout is not None
    app = psutil.Process(int(starter.stdout.readline()))
    assert os.getpgid(app.pid) == app.pid
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    starter.stdout.close()
    left = psutil.wait_procs([app], timeout=30)[1]
    # One that outlived its device is not left to the machine as well.
    for process in left:
        process.kill()
    assert left == []


def test_a_closed_process_leaves_nothing(tmp_path: Path) -> None:
    """Closing ends the group at once, whatever the app is at."""
    process = AppProcess(Path(sys.executable), tmp_path, [])
    app = psutil.Process(process._start().pid)
    process.close()
    assert process.process is None
    assert not app.is_running()


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
