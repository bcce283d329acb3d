"""A fleet, plain or in Ray: it starts, counts, ends, and leaves nothing behind, whoever kills it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from ray._private import services

from client_agent.learning.data import Part
from client_agent.learning.plugins import PluginError
from client_agent.links.kafka import open_link
from client_agent.running.fleet import Fleet, FleetOptions, _FleetProcess, is_over, spread_devices
from client_agent.running.interrupts import hold_interrupts
from client_agent.running.loop import Stats
from client_agent.running.plain_session import FleetError, PlainSession
from client_agent.running.ray_session import RaySession, _wait_for_node
from client_agent.running.watch import TookTooLong
from streams.memory import MemoryLog
from tests.places import PARTITIONS, answer_home
from tests.worlds.builders import KEY
from tests.worlds.device_world import World

ENDLESS_S = 10.0  # as good as for ever, and still an end where nothing else ends it


def lonely_log() -> MemoryLog:
    """A log of one process, in which nobody answers."""
    return World().log


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def options(folder: Path, **changes: object) -> FleetOptions:
    link = partial(open_link, lonely_log, operator=KEY.public_key)
    given = {"devices": 12, "processes": 1, "engine": "ray", **changes}
    return FleetOptions(task="digits", open_link=link, folder=folder, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["plain", "ray"])
def test_a_fleet_starts_and_ends(tmp_path: Path, engine: str) -> None:
    """Guarantee: after `stop` no process of the fleet is left; while it ran, its devices checked in."""
    before = children()
    with Fleet(options(tmp_path, engine=engine)) as fleet:
        deadline = time.monotonic() + 60
        while (stats := fleet.count()).checked_in < 6 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert children() - before
    assert (stats.devices, stats.failed, stats.error) == (12, 0, "")
    assert stats.checked_in >= 6
    deadline = time.monotonic() + 60
    while children() - before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not children() - before
    assert len(list(tmp_path.glob("*/identity.json"))) == 12


def test_a_module_that_does_not_end_stops_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a data module that loops where it is imported ends the fleet with its line, before any process."""
    (tmp_path / "looping.py").write_text("while True:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = children()
    fleet = Fleet(options(tmp_path, engine="plain", data="looping:data", load_s=0.1))
    told = r"importing 'looping:data': it did not end within 0.1 s\. .*--load-s \(.*looping\.py:[12]\)"
    with pytest.raises(TookTooLong, match=told):
        fleet.start()
    assert children() == before


class Member:
    """What a process of the tests holds."""

    def pid(self) -> int:
        """Which process it is."""
        return os.getpid()

    def fail(self) -> None:
        """Raise, as a device's process may."""
        raise ValueError("no such thing")

    def hang(self) -> None:
        """Answer nobody for long."""
        time.sleep(600)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_plain_process_that_dies_is_started_again(processes: int) -> None:
    """Guarantee: a death costs one answer; what a process raises is told; one that hangs is ended with the others."""
    session, before = PlainSession([__name__]), children()
    # With one process nothing is imported ahead, and each is started by itself.
    session.start(processes=processes)
    session.spawn(Member)
    session.spawn(Member)
    try:
        first, second = session.collect("pid")
        os.kill(first, signal.SIGKILL)
        found = session.collect("pid")
        assert list(found) == [None, second]
        again, same = session.collect("pid")
        assert again not in {None, first}
        assert same == second
        session.begin("fail")
        with pytest.raises(FleetError, match="no such thing"):
            session.collect("pid")
    finally:
        session.stop("hang")
    assert children() == before


def test_a_fleet_that_cannot_start_says_why(tmp_path: Path) -> None:
    """Guarantee: a wrong plug point, or nobody to run, is told before any process is started."""
    before = children()
    with (
        pytest.raises(PluginError, match="no_such_module_here"),
        Fleet(options(tmp_path, data="no_such_module_here:f")),
    ):
        pass
    with pytest.raises(FleetError, match="at least 1"):
        Fleet(replace(options(tmp_path), devices=0))
    assert not children() - before


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
from pathlib import Path
from tests.unit.client_agent.running.test_fleet import options
from client_agent.running.fleet import Fleet
try:
    print("starting", flush=True)
    with Fleet(options(Path(sys.argv[1]), engine=sys.argv[2], processes=2)):
        print("up", flush=True)
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(3)
"""


@pytest.mark.parametrize("engine", ["plain", "ray"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_fleet_that_is_interrupted(tmp_path: Path, how: signal.Signals, engine: str) -> None:
    """Guarantee: Ctrl-C takes every process of the fleet along; kill -9 of its driver at least every device."""
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), engine], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "starting\n"
    assert run.stdout.readline() == "up\n"
    family = psutil.Process(run.pid).children(recursive=True)
    assert family
    if how is signal.SIGKILL:
        # Two of Ray's own agents first try for a minute to report that their node is gone.
        family = [process for process in family if "Agent" not in process.cmdline()[0]]
    if how is signal.SIGINT:
        os.killpg(run.pid, how)  # as a terminal does
    else:
        run.kill()
    code = run.wait(timeout=120)
    assert code == (3 if how is signal.SIGINT else -signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    for session in Path("/tmp").glob(f"fl-*/r/session_*_{run.pid}"):
        shutil.rmtree(session.parent.parent, ignore_errors=True)


def test_a_fleet_that_is_interrupted_while_it_starts(tmp_path: Path) -> None:
    """Guarantee: Ctrl-C amid the start ends everything in order too, and never in a crash of Ray."""
    run = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), "ray"], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert run.stdout is not None
    assert run.stdout.readline() == "starting\n"
    found, deadline = psutil.Process(run.pid), time.monotonic() + 60
    # The first of Ray's processes is there: from now on its shutdown races with its start.
    while not (family := found.children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=120) == 3
    assert run.stdout.read() == ""
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert list(Path("/tmp").glob(f"fl-*/r/session_*_{run.pid}")) == []


def test_an_interruption_waits_for_the_end_of_the_block() -> None:
    """Guarantee: neither Ctrl-C nor SIGTERM stops what is held half-way, both count afterwards, and as before."""
    done, before = [], signal.getsignal(signal.SIGTERM)
    # A shell has its commands in the background ignore Ctrl-C, and the test runner may be one of them.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)

    def be_interrupted() -> None:
        with hold_interrupts():
            signal.raise_signal(signal.SIGINT)
            done.append("all of it")

    try:
        with pytest.raises(KeyboardInterrupt):
            be_interrupted()
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_ray_cannot_start_is_told() -> None:
    """Whatever Ray raises becomes one line that says what to do."""
    session = RaySession()
    try:
        with pytest.raises(FleetError, match=r"Ray did not start .*start the fleet again"):
            session.start(processes=-1)
    finally:
        session.stop("stop")


def load_slowly(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """The first device's data take longer than anybody waits."""
    end_s = time.monotonic() + (ENDLESS_S if part.index == 0 else 0)
    while time.monotonic() < end_s:
        pass
    return np.zeros((8, 64), np.float32), np.zeros(8, np.int64)


def test_data_that_do_not_load_cost_one_device(tmp_path: Path) -> None:
    """Guarantee: loading has an end, the others go on, and the reason names the code, the line and what to do."""
    chosen = replace(options(tmp_path), devices=3, data=f"{__name__}:load_slowly", load_s=1.0)
    process = _FleetProcess(chosen, (0, 1, 2), str(Path.cwd()))
    process.start()
    try:
        give_up_s = time.monotonic() + 60
        while (stats := process.count()[1]).loading:
            assert time.monotonic() < give_up_s
            time.sleep(0.05)
        assert (stats.devices, stats.failed) == (3, 1)
        [reason] = stats.failed_for
        for told in ("load_slowly", "did not end within 1 s", "--load-s", "test_fleet.py:"):
            assert told in reason
    finally:
        process.stop()


def test_ray_may_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: on a busy machine a fleet waits for Ray's processes longer than Ray does, but not for ever."""
    asked, absent = [], 3

    def get_node(address: str) -> str:
        asked.append(address)
        if len(asked) <= absent:
            raise RuntimeError("no node yet")
        return "there"

    monkeypatch.setattr(services, "get_node", get_node)
    with _wait_for_node(60.0):
        assert services.get_node("here") == "there"
    assert (len(asked), services.get_node) == (absent + 1, get_node)
    absent = 99
    with _wait_for_node(0.0), pytest.raises(RuntimeError, match="no node yet"):
        services.get_node("here")


def test_devices_are_spread_devices_evenly_and_by_partition() -> None:
    """Guarantee: each device runs in exactly one process, each process has about as many, and reads few partitions."""
    names = [f"sim0-{index:05d}" for index in range(200)]
    shares = spread_devices(names, 4, partitions=PARTITIONS)
    assert sorted(index for share in shares for index in share) == list(range(200))
    assert {len(share) for share in shares} == {50}
    assert all(len({answer_home(names[index]) for index in share}) <= 4 for share in shares)
    assert [len(share) for share in spread_devices(names[:2], 4, partitions=PARTITIONS)] == [1, 1]


def test_is_over_counts_the_failed() -> None:
    """Guarantee: a fleet is over when nobody is left who could train."""
    assert is_over(Stats(devices=3, closed=2, failed=1))
    assert not is_over(Stats(devices=3, closed=2))
    assert not is_over(Stats(devices=3, closed=2, loading=1))
    assert Stats(devices=1, error="a") + Stats(devices=2, error="b") == Stats(devices=3, error="a")
