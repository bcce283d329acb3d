"""The worker's orders: one line on its stdin that holds all that it needs."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.hosts.crash_marker import CrashMarker
from actors.runtime.guard import InputPlace, PoisonInput
from actors.wiring import ROLES
from ops.processes.worker import Orders, list_inputs
from ops.settings import Settings
from schemas.errors import EXIT_CONFIGURATION
from tests.root import ROOT
from tests.worlds.builders import FOR_EVER_MS, role_key

SETTINGS = Settings(folder=Path("there"), operator_key_file=Path("k"), sasl_password="secret-word", metrics_port=9000)
POISON = PoisonInput(5, InputPlace("rounds", 41, 2), 3, "killed by SIGKILL")


@pytest.mark.parametrize("poison", [None, POISON])
def test_orders_arrive_as_they_were_given(poison: PoisonInput | None) -> None:
    """Settings with their paths, the file of the crash marker and the input to skip survive the pipe."""
    orders = Orders(settings=SETTINGS, key=role_key("selector"), crash_marker=7, poison_input=poison)
    line = orders.encode()
    assert line.count(b"\n") == 1
    assert Orders.decode(line) == orders


def test_each_actor_knows_its_inputs() -> None:
    """A crash marker counts topics in this order; a shard worker decides nothing and has none."""
    assert list_inputs("aggregator") == tuple(ROLES["aggregator"].inputs)
    assert list_inputs("shard") == ()


@contextlib.contextmanager
def _started(settings: Settings, *, until_ms: int = FOR_EVER_MS) -> Iterator[subprocess.Popen[bytes]]:
    """A shard worker with these orders."""
    program = "import sys; from ops.processes import worker; worker.work(sys.argv[1])"
    key, marker = role_key("shard", until_ms=until_ms), CrashMarker.new(()).descriptor
    orders = Orders(settings=settings, key=key, crash_marker=marker, poison_input=None)
    with subprocess.Popen(
        [sys.executable, "-c", program, "shard"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[orders.crash_marker],
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(orders.encode())
        # The pipe stays open: a worker whose supervisor has ended would end too.
        child.stdin.flush()
        try:
            yield child
        finally:
            child.kill()


def _run(settings: Settings, *, until_ms: int = FOR_EVER_MS) -> tuple[int, str]:
    """The exit code of a shard worker with these orders, and what it told."""
    with _started(settings, until_ms=until_ms) as child:
        assert child.stderr is not None
        told = child.stderr.read().decode()
        return child.wait(60), told


def test_a_metrics_port_that_is_taken_ends_the_worker_for_good() -> None:
    """Exit 78 and one line, so that the supervisor does not start it again for ever."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, told = _run(Settings(bootstrap_servers="127.0.0.1:9", metrics_port=port))
    assert code == EXIT_CONFIGURATION
    assert f"127.0.0.1:{port}" in told
    assert "Traceback" not in told


def test_a_key_that_has_run_out_ends_the_worker_for_good() -> None:
    """Exit 78 and one line that says how to renew it."""
    code, told = _run(Settings(bootstrap_servers="127.0.0.1:9"), until_ms=1)
    assert code == EXIT_CONFIGURATION
    assert "fedlog key issue --for shard" in told
    assert "Traceback" not in told


def test_a_worker_shows_where_it_waits() -> None:
    """SIGUSR1 has every thread's stack printed, so that a worker that hangs can be asked where; it goes on."""
    with _started(Settings(bootstrap_servers="127.0.0.1:9")) as child:
        assert child.stderr is not None
        # The first line is logged after the signal's handler is there.
        assert b"metrics" in child.stderr.readline()
        child.send_signal(signal.SIGUSR1)
        told = iter(child.stderr.readline, b"")
        assert any(b"most recent call first" in line for line in told)
        assert any(b"in start_worker" in line or b"in work" in line for line in told)
        assert child.poll() is None
