"""`fedlog worker`: the worker is kept alive, and never outlives its supervisor."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.keys import OperatorKeyError, RoleKey
from ops.processes.supervisor import Supervisor
from ops.settings import Settings
from tests.root import ROOT

# A supervisor whose worker is a stand-in: it notes its pid and its settings, and does as the first argument says.
PROGRAM = """
import sys
from pathlib import Path
from schemas.errors import FedlogError
from actors.keys import OperatorKey
from ops.processes import supervisor
from ops.settings import Settings
supervisor.BACKOFF_FIRST_S = 0.01
supervisor.STOP_TIMEOUT_S = 1.0
supervisor._PROGRAM = '''
import sys, types
sys.path[0] = sys.argv[1]
import os, signal, time
def run(name, options):
    with open(os.path.join({folder!r}, "starts"), "a") as file:
        file.write(f"{{os.getpid()}} {{options.kafka.sasl_password}} {{sys.argv}}\\\\n")
    {deed}
stub = types.ModuleType("actors.hosts.faust_app")
stub.run = run
sys.modules["actors.hosts.faust_app"] = stub
import actors.hosts
actors.hosts.faust_app = stub
from ops.processes import worker
worker.STOP_TIMEOUT_S = 1.0
worker.work(sys.argv[2])
'''
settings = Settings(bootstrap_servers="nowhere:1", folder=Path({folder!r}), security_protocol="SASL_SSL",
                    sasl_mechanism="PLAIN", sasl_username="u", sasl_password="secret-word")
try:
    key = OperatorKey(bytes(32)).issue("selector", bytes(16), until_ms=1 << 60)
    supervisor.Supervisor("selector", settings, find_key=lambda: key).run()
except FedlogError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts supervisors in sessions of their own, and ends exactly these and their workers."""
    running: list[subprocess.Popen[bytes]] = []

    def start(deed: str) -> subprocess.Popen[bytes]:
        program = PROGRAM.format(folder=str(tmp_path), deed=deed)
        supervisor = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL
        )
        running.append(supervisor)
        return supervisor

    yield start
    workers = pids(tmp_path)
    for supervisor in running:
        supervisor.kill()
        supervisor.wait()
    for pid in workers:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def pids(folder: Path) -> list[int]:
    """The workers that were started so far."""
    starts = folder / "starts"
    return [int(line.split()[0]) for line in starts.read_text().splitlines()] if starts.exists() else []


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def until(is_so: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait; fail when it does not become so."""
    give_up = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.02)


Start = Callable[[str], subprocess.Popen[bytes]]


def test_a_worker_that_ends_is_started_again(started: Start, tmp_path: Path) -> None:
    """Exit 70, a crash, a kill: the next worker starts, and the run file names it."""
    supervisor = started("time.sleep(600) if len(open(file.name).readlines()) > 2 else os._exit(70)")
    until(lambda: len(pids(tmp_path)) == 3)
    run_file = tmp_path / "run" / f"selector-{supervisor.pid}.json"
    until(lambda: json.loads(run_file.read_text())["child"] == pids(tmp_path)[-1])
    told = json.loads(run_file.read_text())
    assert (told["actor"], told["supervisor"], told["starts"]) == ("selector", supervisor.pid, 3)
    os.kill(told["child"], signal.SIGKILL)
    until(lambda: len(pids(tmp_path)) == 4)


def test_sigterm_ends_the_worker_and_the_run_file(started: Start, tmp_path: Path) -> None:
    """An ordered end leaves no process and no file behind."""
    supervisor = started("time.sleep(600)")
    until(lambda: len(pids(tmp_path)) == 1)
    supervisor.terminate()
    assert supervisor.wait(60) == 0
    assert not is_alive(pids(tmp_path)[0])
    assert list((tmp_path / "run").iterdir()) == []


def test_a_worker_that_does_not_hear_is_killed(started: Start, tmp_path: Path) -> None:
    """A worker that ignores SIGTERM does not keep its supervisor from ending."""
    supervisor = started(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); open(file.name + '.deaf', 'w'); time.sleep(600)"
    )
    until((tmp_path / "starts.deaf").exists)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(60) == 0
    assert not is_alive(pids(tmp_path)[0])


@pytest.mark.parametrize("deed", ["time.sleep(600)", "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"])
def test_no_worker_outlives_a_supervisor_that_was_killed(started: Start, tmp_path: Path, deed: str) -> None:
    """Nobody can tell a worker that its supervisor got SIGKILL; it finds out by itself."""
    supervisor = started(deed)
    until(lambda: len(pids(tmp_path)) == 1)
    supervisor.kill()
    supervisor.wait()
    until(lambda: not is_alive(pids(tmp_path)[0]))


def test_a_password_reaches_the_worker_through_the_pipe_alone(started: Start, tmp_path: Path) -> None:
    """Argument lists show in `ps`, so no secret is in one."""
    started("time.sleep(600)")
    until(lambda: len(pids(tmp_path)) == 1)
    told = (tmp_path / "starts").read_text()
    assert told.split()[1] == "secret-word"
    assert "secret-word" not in Path(f"/proc/{pids(tmp_path)[0]}/cmdline").read_text()


def test_a_worker_that_cannot_run_is_not_started_again(started: Start, tmp_path: Path) -> None:
    """A topic that is set up wrongly does not get better by trying again."""
    supervisor = started("from streams.log import TopicUnfit; raise TopicUnfit('no such topic')")
    assert supervisor.wait(60) == 78
    assert len(pids(tmp_path)) == 1


DIES = (
    "from actors.runtime.guard import InputPlace; "
    "poison = options.poison_input; "
    "told = poison and [*poison.place, poison.deaths, poison.skip.level.name]; "
    "print(told, file=open(file.name + '.told', 'a', 1)); "
    "starts = len(open(file.name).readlines()); "
    "options.crash_marker.put(5, InputPlace('rounds', {offset}, 2)); "
    "{lifts}; "
    "os.kill(os.getpid(), signal.{by}) if starts < {until} else time.sleep(600)"
)


def test_three_deaths_at_one_input_are_told_to_the_next_worker(started: Start, tmp_path: Path) -> None:
    """A crash loop is broken: the fourth worker is told to pass that input, and the seventh to pass it unseen."""
    started(DIES.format(offset="41", lifts="0", by="SIGSEGV", until=7))
    until(lambda: len(told(tmp_path)) == 7)
    passed = [["rounds", 41, 2, deaths, "WITHOUT_BODY" if deaths < 6 else "ENTIRELY"] for deaths in range(3, 7)]
    assert told(tmp_path) == [None, None, None, *passed]


@pytest.mark.parametrize(
    ("offset", "lifts"),
    [("starts // 2", "0"), ("41", "options.crash_marker.put(5, None)"), ("41 + starts % 2", "0")],
    ids=["with progress", "between two inputs", "by turns"],
)
def test_deaths_at_random_skip_nothing(started: Start, tmp_path: Path, offset: str, lifts: str) -> None:
    """Whoever kills workers without meaning an input never has one passed: only three in a row at the same count."""
    started(DIES.format(offset=offset, lifts=lifts, by="SIGKILL", until=6))
    until(lambda: len(told(tmp_path)) == 6)
    assert told(tmp_path) == [None] * 6


def told(folder: Path) -> list[Any]:
    """What each worker was told to pass."""
    file = folder / "starts.told"
    return [ast.literal_eval(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_worker_whose_key_is_not_found_is_ended(tmp_path: Path) -> None:
    """Guarantee: the first worker is started before its key is there, and never outlives the want of one."""

    def find_key() -> RoleKey:
        raise OperatorKeyError("no key")

    found = Supervisor("selector", Settings(folder=tmp_path), find_key=find_key)
    with pytest.raises(OperatorKeyError):
        found.run()
    assert found._waiting is not None
    assert found._waiting.returncode is not None
    assert not (tmp_path / "run").exists()
