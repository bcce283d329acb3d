"""An outage is told once when it begins and once when it ends, and a wait that goes on without one is told too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from structlog.testing import capture_logs

from streams import retry
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, TopicPartition
from streams.retry import SETTLES_S, TELLS_AFTER_S, TELLS_EVERY_S, Outage


def test_an_outage_is_two_lines() -> None:
    """Whoever reads the log sees when the broker went and how long it was away, and nothing in between."""
    outage = Outage("nowhere:1")
    with capture_logs() as lines:
        assert outage.answers is None
        outage.note_answer()
        for number in range(3):
            outage.note_silence(f"question {number}")
            assert outage.answers is False
        for _ in range(3):
            outage.note_answer()
            assert outage.answers
        outage.note_silence("a client that is late")
        assert outage.answers
        outage._back_s -= SETTLES_S
        outage.note_silence("again")
    assert [line["event"] for line in lines] == ["broker_away", "broker_back", "broker_away"]
    assert lines[0]["error"] == "question 0"


def test_silence_is_counted_from_the_last_answer() -> None:
    """Questions that get no answer do not make a broker less silent."""
    outage = Outage("nowhere:1")
    outage._answered_s -= 100
    outage.note_silence("nothing")
    assert outage.silent_s > 99
    outage.note_answer()
    assert outage.silent_s < 99


def test_a_log_that_finds_no_broker_tells_its_outage() -> None:
    """Whatever is asked of Kafka counts: the outage begins with the first question that finds nobody."""
    with closing(KafkaLog(KafkaSettings(bootstrap_servers="127.0.0.1:1"))) as log, capture_logs() as lines:
        with pytest.raises(LogUnavailable):
            log.bounds(TopicPartition("updates", 0))
        assert log.outage.answers is False
    assert [line["event"] for line in lines] == ["broker_away"]


class Clock:
    """The time that `retry` reads, and a call that fails until the clock has passed `until_s`."""

    def __init__(self, outage: Outage | None = None) -> None:
        self.now_s, self.until_s, self.outage = 0.0, 0.0, outage

    def monotonic(self) -> float:
        """Now."""
        return self.now_s

    def sleep(self, seconds: float) -> None:
        """Let it pass at once."""
        self.now_s += seconds

    def call(self) -> str:
        """Fail until then; a second passes with each try."""
        self.now_s += 1
        if self.now_s < self.until_s:
            raise LogUnavailable(f"no answer at {self.now_s:.0f} s")
        return "done"


@pytest.fixture(params=["in this thread", "in other threads"])
def wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Clock], str]:
    """Waits for the call of a clock, each way in which calls are retried."""

    def wait_here(clock: Clock) -> str:
        monkeypatch.setattr(retry, "time", clock)
        return retry.retry_until_available(clock.call, outage=clock.outage)

    def wait_elsewhere(clock: Clock) -> str:
        monkeypatch.setattr(retry, "time", clock)
        monkeypatch.setattr(retry, "RETRY_EVERY_S", 0.0)
        with ThreadPoolExecutor(1) as threads:
            return asyncio.run(retry.run_until_available(clock.call, threads, outage=clock.outage))

    return wait_here if request.param == "in this thread" else wait_elsewhere


def test_a_wait_that_goes_on_is_told(wait: Callable[[Clock], str]) -> None:
    """What goes on failing has a line soon, and then one each minute, with what it fails of."""
    clock = Clock()
    clock.until_s = TELLS_AFTER_S + 2 * TELLS_EVERY_S + 30
    with capture_logs() as lines:
        assert wait(clock) == "done"
    assert [line["event"] for line in lines] == ["still_waiting"] * 3
    assert all("no answer at" in line["error"] for line in lines)
    assert lines[0]["waited_s"] >= TELLS_AFTER_S


def test_a_short_wait_is_not_told(wait: Callable[[Clock], str]) -> None:
    """A broker that is back in seconds leaves no line."""
    clock = Clock()
    clock.until_s = TELLS_AFTER_S - 2
    with capture_logs() as lines:
        assert wait(clock) == "done"
    assert lines == []


def test_an_outage_is_not_told_twice(wait: Callable[[Clock], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """During an outage that has its line, waiting has none; what goes on after it has."""
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    clock.outage = outage = Outage("nowhere:1")
    call, clock.until_s = clock.call, 500.0

    def answer_at_last() -> str:
        if clock.now_s > 400:
            outage.note_answer()
        return call()

    monkeypatch.setattr(clock, "call", answer_at_last)
    with capture_logs() as lines:
        outage.note_silence("gone")
        assert wait(clock) == "done"
    assert [line["event"] for line in lines] == ["broker_away", "broker_back", "still_waiting", "still_waiting"]


def test_patience_ends_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: who may not wait for ever is told what has failed, and one that is answered in time is not."""
    clock = Clock()
    monkeypatch.setattr(retry, "time", clock)
    clock.until_s = 8.0
    assert retry.retry_until_available(clock.call, patience_s=20.0) == "done"
    clock.until_s = 500.0
    with pytest.raises(LogUnavailable, match="no answer at"):
        retry.retry_until_available(clock.call, patience_s=20.0)
    assert 20.0 < clock.now_s - 8.0 < 25.0
