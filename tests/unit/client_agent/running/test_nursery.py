"""Processes that are forked from one that has imported for them: as good as others, and sooner there."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest

from client_agent.running import nursery
from client_agent.running.nursery import can_fork
from client_agent.running.plain_session import PlainSession
from tests.unit.client_agent.running.test_fleet import children

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes are forked on Linux alone")
SLOW = "slow_to_import"


class Told:
    """What a process of the tests says of itself."""

    def __init__(self, word: str = "") -> None:
        if word == "fails":
            raise ValueError("made to fail")

    def look(self) -> tuple[int, int, int, float, bool]:
        """Its number, its starter's, its session's, what it draws, and whether the module was there before it."""
        return os.getpid(), os.getppid(), os.getsid(0), float(np.random.random()), SLOW in sys.modules  # noqa: NPY002


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlainSession]:
    """Two processes with a module that takes a while to import, and a broken one."""
    (tmp_path / f"{SLOW}.py").write_text("import time; time.sleep(0.5)")
    (tmp_path / "broken_here.py").write_text("raise RuntimeError('cannot be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    # With numpy's generator there before the fork, both would draw the same if nobody saw to it.
    started = PlainSession([SLOW, "numpy.random", "broken_here", "no_such_module_here"])
    started.start(processes=2)
    before = children()
    try:
        yield started
    finally:
        started.stop("look")
    assert not children() - before


def wait_for(session: PlainSession, method: str = "look") -> Sequence[tuple[int, int, int, float, bool]]:
    """What all of them say, as soon as all do."""
    give_up_s = time.monotonic() + 60
    while None in (found := session.collect(method)):
        assert time.monotonic() < give_up_s
    return found


def test_each_is_a_process_of_its_own(session: PlainSession) -> None:
    """Guarantee: one has imported for both; no signal to one reaches the other, and they do not draw alike."""
    session.spawn(Told)
    session.spawn(Told)
    first, second = wait_for(session)
    assert first[1] == second[1] != os.getpid()
    assert (first[0], second[0]) == (first[2], second[2])
    assert first[3] != second[3]
    assert first[4]
    assert second[4]


def test_whatever_dies_the_fleet_goes_on(session: PlainSession) -> None:
    """Guarantee: without its nursery a process that dies is started again as ever."""
    session.spawn(Told)
    [(first, starter, *_)] = wait_for(session)
    os.kill(starter, signal.SIGKILL)
    psutil.Process(starter).wait(60)
    os.kill(first, signal.SIGKILL)
    [(again, parent, *_)] = wait_for(session)
    assert again != first
    assert parent == os.getpid()


def test_a_nursery_that_ends_early_is_done_without(session: PlainSession) -> None:
    """Guarantee: what it was asked for, and has not forked, is started in the other way."""
    session.spawn(Told)
    assert session._nursery is not None
    session._nursery._process.kill()
    [(_, parent, *_)] = wait_for(session)
    assert parent == os.getpid()


def test_who_stops_at_once_waits_for_no_import(session: PlainSession) -> None:
    """Guarantee: Ctrl-C while everything is still being imported ends it, and leaves nothing."""
    session.spawn(Told)
    before_s = time.monotonic()
    session.stop("look")
    assert time.monotonic() - before_s < 30


def test_one_that_fails_fails_alone(session: PlainSession) -> None:
    """Guarantee: one that raises where it begins is started again, and takes neither the nursery nor others along."""
    session.spawn(Told, "fails")
    session.spawn(Told)
    give_up_s, living = time.monotonic() + 60, None
    while living is None:
        failed, living = session.collect("look")
        assert failed is None
        assert time.monotonic() < give_up_s
    assert living[0] in {child.pid for child in psutil.Process(living[1]).children()}


def test_where_nothing_can_be_forked_everything_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: on other systems a fleet is the same, and slower to start."""
    monkeypatch.setattr(nursery.sys, "platform", "darwin")
    session = PlainSession([])
    session.start(processes=2)
    try:
        session.spawn(Told)
        [(_, parent, *_)] = wait_for(session)
        assert parent == os.getpid()
    finally:
        session.stop("look")
