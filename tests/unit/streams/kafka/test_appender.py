"""What is handed to librdkafka at once, and what is made of the errors that it has on appending."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.appender import IN_FLIGHT_BYTES_MAX, Appender, split_into_portions
from streams.kafka.settings import KafkaSettings
from streams.log import KAFKA_RECORD_BYTES_MAX, Draft, LogError, LogRefused, LogUnavailable

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:9")
VALUES = [None, *map(bytes, (0, 1, 2**19, KAFKA_RECORD_BYTES_MAX - 2))]


@given(st.lists(st.sampled_from(range(len(VALUES))), max_size=20))
def test_portions_are_all_of_it_in_order_and_small(chosen: list[int]) -> None:
    """Law 2 begins here: nothing is lost, doubled or moved, no portion is too large, and no two could be one."""
    drafts = [Draft(topic="t", partition=0, key=b"%d" % number, value=VALUES[one]) for number, one in enumerate(chosen)]
    found = list(split_into_portions(drafts))
    assert [draft for few in found for draft in few] == drafts
    sizes = [sum(len(draft.value or b"") for draft in few) for few in found]
    assert all(size <= IN_FLIGHT_BYTES_MAX for size in sizes)
    assert all(size + after > IN_FLIGHT_BYTES_MAX for size, after in pairwise(sizes))


def test_threads_together_queue_no_more_than_one_may() -> None:
    """However many append at once, librdkafka has no more in its queue than it handles without spinning."""
    appender, producer = Appender(NOWHERE), _Slow()
    appender._producer = producer  # type: ignore[assignment]
    drafts = [Draft(topic="t", partition=0, value=bytes(2**19)) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        offsets = [*threads.map(appender.append, [drafts] * 24)]
    assert [len(each) for each in offsets] == [4] * 24
    assert producer.most_bytes <= IN_FLIGHT_BYTES_MAX


def test_nobody_waits_for_an_appender_that_has_ended() -> None:
    """An outage costs its time once, not once more for each thread that waits for its turn."""
    appender = Appender(NOWHERE)
    producer = appender._producer = _Failing()  # type: ignore[assignment]
    drafts = [Draft(topic="t", partition=0, value=bytes(2**19)) for _ in range(5)]
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(appender.append, drafts)
        assert producer.asked.wait(60)
        waiting = [threads.submit(appender.append, drafts) for _ in range(3)]
        producer.goes_on.set()
        for each in (first, *waiting):
            with pytest.raises(LogUnavailable):
                each.result(60)
    assert producer.flushes == 1


class _Slow:
    """A producer that delivers what is queued now and then, and knows how much that was at most."""

    def __init__(self) -> None:
        self._lock, self._queued, self._bytes, self.most_bytes = threading.Lock(), list[Any](), 0, 0

    def produce(self, *_: object, value: bytes, on_delivery: Any, **__: object) -> None:
        with self._lock:
            self._queued.append((on_delivery, len(value)))
            self._bytes += len(value)
            self.most_bytes = max(self.most_bytes, self._bytes)

    def flush(self, _: float) -> None:
        time.sleep(0.001)
        with self._lock:
            while self._queued:
                told, size = self._queued.pop()
                self._bytes -= size
                told(None, self)

    def offset(self) -> int:
        """Of every message."""
        return 0


class _Failing:
    """A producer that is told when to fail."""

    def __init__(self) -> None:
        self.asked, self.goes_on, self.flushes = threading.Event(), threading.Event(), 0

    def produce(self, *_: object, **__: object) -> None:
        """Taken, and never sent."""

    def flush(self, _: float) -> None:
        self.flushes += 1
        self.asked.set()
        assert self.goes_on.wait(60)
        # The others have their time to come as far as they get.
        time.sleep(0.05)
        raise KafkaException(KafkaError(KafkaError._MSG_TIMED_OUT))


def test_an_appender_takes_its_threads_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each outage of the broker costs an appender; none of them waits for the garbage collector."""
    monkeypatch.setattr("streams.kafka.appender.APPEND_TIMEOUT_S", 0.5)
    with _no_collection():
        before = _threads()
        appender = Appender(NOWHERE)
        assert _threads() > before
        with pytest.raises(LogUnavailable):
            appender.append([Draft(topic="t", partition=0, value=b"x")])
        del appender
        give_up = time.monotonic() + 60
        while _threads() > before and time.monotonic() < give_up:
            time.sleep(0.01)  # the kernel shows a thread a little longer than it lives
        assert _threads() == before


class _Forgetful:
    """A producer whose broker had every record already, and no longer knows where: librdkafka then has no offset."""

    def __init__(self) -> None:
        self._deliver: list[Any] = []

    def produce(self, *_: Any, on_delivery: Any, **__: Any) -> None:
        self._deliver.append(on_delivery)

    def flush(self, _: float) -> None:
        while self._deliver:
            self._deliver.pop()(None, self)

    def offset(self) -> None:
        """What `Message.offset` gives for an offset below zero."""


def test_a_record_without_an_offset_may_be_appended_again() -> None:
    """A retry that the broker recognises too late says nothing of the offset: the caller waits, and no process ends."""
    appender = Appender(NOWHERE)
    appender._producer = _Forgetful()  # type: ignore[assignment]
    with pytest.raises(LogUnavailable, match="at which offset"):
        appender.append([Draft(topic="t", partition=0, value=b"x")])


def _threads() -> int:
    """How many of this process's threads are librdkafka's."""
    found = 0
    for path in Path("/proc/self/task").glob("*/comm"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += path.read_text().startswith("rdk:")
    return found


@contextmanager
def _no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (KafkaError._FATAL, LogUnavailable),
        (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, LogUnavailable),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, LogRefused),
        (KafkaError.INVALID_MSG, LogError),
    ],
)
def test_what_ends_an_appender_is_an_error_of_the_log(code: int, expected: type[LogError]) -> None:
    """An appender at its end raises out of every call; whoever appends is told what to do: again, or never."""
    appender = Appender(NOWHERE)
    appender._producer = _Ended(KafkaException(KafkaError(code)))  # type: ignore[assignment]
    with pytest.raises(LogError) as caught:
        appender.append([Draft(topic="t", partition=0, value=b"x")])
    assert type(caught.value) is expected


def test_what_a_fatal_error_left_in_the_queue_may_be_tried_again() -> None:
    """The thread that hears of the fatal error is one; another, whose records had not left, is told less."""
    appender = Appender(NOWHERE)
    appender._producer = _Purged()  # type: ignore[assignment]
    with pytest.raises(LogUnavailable):
        appender.append([Draft(topic="t", partition=0, value=b"x")])


class _Purged:
    def produce(self, *_: object, on_delivery: Any, **__: object) -> None:
        self._told = on_delivery

    def flush(self, _: float) -> None:
        self._told(KafkaError(KafkaError._PURGE_QUEUE), None)


class _Ended:
    def __init__(self, error: KafkaException) -> None:
        self._error = error

    def produce(self, *_: object, **__: object) -> None:
        """Taken, and never sent."""

    def flush(self, _: float) -> None:
        raise self._error
