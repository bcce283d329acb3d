"""A command of the user's gets an announcement, and what it makes of it is known: done, failed, or too long."""

from __future__ import annotations

from pathlib import Path

import psutil

from ops.terminal.handing import Command
from tests.unit.ops.processes.test_children import is_alive, wait_until

PLAIN = {"PATH": "/usr/bin:/bin"}


def run(line: str, *, limit_s: float = 60.0, event: bytes = b'{"id": 1}', **environment: str) -> str:
    """Why it has failed."""
    return Command(line=line, limit_s=limit_s).run(event, {**PLAIN, **environment})


def test_a_command_gets_the_event_and_its_environment(tmp_path: Path) -> None:
    """Guarantee: JSON on stdin, names in variables."""
    out = tmp_path / "out"
    assert run(f'cat > "{out}"; echo "$FEDLOG_TASK" >> "{out}"', FEDLOG_TASK="digits") == ""
    assert out.read_text() == '{"id": 1}digits\n'


def test_one_that_reads_nothing_has_not_failed() -> None:
    """Guarantee: an event that is larger than a pipe holds nobody up."""
    assert run("exit 0", event=b"x" * 1_000_000) == ""


def test_a_failure_says_how_it_ended() -> None:
    """Guarantee: an exit code, or the signal."""
    assert run("exit 3") == "exit code 3"
    assert run("kill -9 $$") == "ended by SIGKILL"
    assert run("there-is-no-such-command 2> /dev/null") == "exit code 127"


def test_one_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    """Guarantee: a limit holds, and no child of the command outlives it."""
    pid = tmp_path / "pid"
    assert run(f"sleep 60 & echo $! > {pid}; wait", limit_s=0.5) == "it took longer than 0.5 s and was ended"
    wait_until(lambda: not is_alive(int(pid.read_text())), timeout_s=10)


def test_what_a_command_leaves_running_is_its_own_affair(tmp_path: Path) -> None:
    """Guarantee: a command may start a server."""
    pid = tmp_path / "pid"
    assert run(f"sleep 60 > /dev/null 2>&1 & echo $! > {pid}") == ""
    left = psutil.Process(int(pid.read_text()))
    assert left.is_running()
    left.kill()
