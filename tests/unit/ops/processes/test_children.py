"""Child processes: started apart from the terminal, and ended in order, by force, and with what they left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from ops.processes import children

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
CALM = "import time; print('ready', flush=True); time.sleep(60)"
PARENT = (
    "import subprocess, sys, time; "
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    "print(child.pid, flush=True); time.sleep(60)"
)


def run(program: str, output: Path) -> children.Child:
    """The program as a child that has begun to print."""
    child = children.start([sys.executable, "-c", program], output=output)
    wait_until(lambda: output.read_text().endswith("\n"))
    return child


def wait_until(is_so: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait; fail when it does not become so."""
    give_up_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up_s, "it did not happen in time"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_a_child_is_ended_in_order(tmp_path: Path) -> None:
    """SIGTERM is enough for most, and their output is in the file."""
    child = run(CALM, tmp_path / "log")
    assert os.getsid(child.pid) == child.pid
    children.end([child], timeout_s=60)
    assert (child.returncode, (tmp_path / "log").read_text()) == (-15, "ready\n")


def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """All share one deadline, after which SIGKILL ends whoever is left."""
    deaf, calm = run(DEAF, tmp_path / "deaf"), run(CALM, tmp_path / "calm")
    children.end([deaf, calm], timeout_s=0.3)
    assert (deaf.returncode, calm.returncode) == (-9, -15)


def test_descendants_go_with_their_parent_when_asked(tmp_path: Path) -> None:
    """What a child has started and left behind is in its session, and ends with it."""
    parent = run(PARENT, tmp_path / "log")
    grandchild = int((tmp_path / "log").read_text())
    assert is_alive(grandchild)
    children.end([parent], timeout_s=60, with_descendants=True)
    wait_until(lambda: not is_alive(grandchild))


def test_a_child_gets_its_pipe_and_files(tmp_path: Path) -> None:
    """Orders go in through stdin; an open file is inherited by number."""
    with (tmp_path / "shared").open("wb") as shared:
        program = f"import os, sys; os.write({shared.fileno()}, sys.stdin.buffer.readline())"
        child = children.start(
            [sys.executable, "-c", program], has_pipe=True, inherits=children.Inheritance(descriptors=[shared.fileno()])
        )
        assert child.stdin is not None
        child.stdin.write(b"orders\n")
        child.stdin.flush()
        assert child.wait(60) == 0
        children.end([child], timeout_s=1)
    assert (tmp_path / "shared").read_text() == "orders\n"
    assert child.stdin.closed


@pytest.mark.parametrize("timeout_s", [0.0, 20.0])
def test_a_process_of_somebody_else_is_ended(timeout_s: float) -> None:
    """Without patience it is killed at once, as a crash would; with some it may end in order."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    children.end_process(psutil.Process(started.pid), timeout_s=timeout_s)
    assert not psutil.pid_exists(started.pid)
    started.wait(60)
