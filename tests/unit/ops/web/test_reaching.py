"""Whether the log answers is known within a moment, and that it answers again too; and where it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ops.web import reaching
from ops.web.reaching import LogReach
from schemas.topics import CATALOGUE, TASKS
from streams.log import Bounds, Draft, EventLog, LogRefused, LogUnavailable, TopicPartition
from streams.memory import MemoryLog


class CutLog(MemoryLog):
    """A log whose broker can be away: it refuses at once, or says nothing at all."""

    def __init__(self) -> None:
        super().__init__(CATALOGUE)
        self.refuses, self.goes_on = False, threading.Event()
        self.goes_on.set()

    def find_written_end(self, at: TopicPartition) -> int:
        """As ever, unless nobody answers."""
        if self.refuses:
            raise LogUnavailable("nobody answers")
        self.goes_on.wait()
        return super().find_written_end(at)


def until(holds: Callable[[], bool]) -> None:
    """Wait for it, and fail where it never comes."""
    give_up_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < give_up_s
        time.sleep(0.01)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CutLog:
    """A log that can be cut, asked as often as a test has time for."""
    monkeypatch.setattr(reaching, "ASK_EVERY_S", 0.01)
    return CutLog()


def test_a_log_that_refuses_is_away_until_it_answers(log: CutLog) -> None:
    """One failed question says so, one answer takes it back; each is asked on a log of its own."""
    opened: list[EventLog] = []

    @contextmanager
    def open_log() -> Iterator[EventLog]:
        opened.append(log)
        yield log

    with LogReach(open_log) as reach:
        assert not reach.is_away
        log.refuses = True
        until(lambda: reach.is_away)
        log.refuses = False
        until(lambda: not reach.is_away)
    assert len(opened) >= 2


def test_the_ends_are_those_of_the_log(log: CutLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every partition that a history is made of; whoever may not read one still says that the log answers."""
    monkeypatch.setattr(reaching, "ENDS_EVERY_S", 0.01)
    at = TopicPartition(TASKS.name, 3)

    @contextmanager
    def open_log() -> Iterator[EventLog]:
        yield log

    def forbid(places: object) -> dict[TopicPartition, Bounds]:
        raise LogRefused("no right to")

    with LogReach(open_log) as reach:
        log.append([Draft(topic=at.topic, partition=at.partition, value=b"x")])
        until(lambda: (reach.state.ends or {}).get(at) == 1)
        monkeypatch.setattr(log, "list_bounds", forbid)
        log.append([Draft(topic=at.topic, partition=at.partition, value=b"x")])
        time.sleep(0.1)
        assert (reach.state.is_away, (reach.state.ends or {})[at]) == (False, 1)


def test_a_log_that_says_nothing_is_away_too(log: CutLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cable that was cut refuses nothing: silence is what shows it."""
    monkeypatch.setattr(reaching, "SILENCE_S", 0.2)

    @contextmanager
    def open_log() -> Iterator[EventLog]:
        yield log

    with LogReach(open_log) as reach:
        log.goes_on.clear()
        until(lambda: reach.is_away)
        log.goes_on.set()
        until(lambda: not reach.is_away)
