"""What is handed to librdkafka at once, and what is made of the errors that it has."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as BrokerPartition
from hypothesis import given
from hypothesis import strategies as st

from schemas.identifiers import CHUNK_BYTES
from streams.bodies import BUDGET_BYTES_MIN
from streams.kafka.bulk import AT_ONCE, UNDER_WAY_BYTES_MAX, Appender, BulkReader, portions
from streams.kafka.settings import KafkaSettings
from streams.log import KAFKA_RECORD_BYTES_MAX, Draft, LogError, LogRefused, LogUnavailable, OffsetLost, TopicPartition

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:9")
BODIES = NOWHERE.named("bodies")
VALUES = [None, *map(bytes, (0, 1, 2**19, KAFKA_RECORD_BYTES_MAX - 2))]


@given(st.lists(st.sampled_from(range(len(VALUES))), max_size=20))
def test_portions_are_all_of_it_in_order_and_small(chosen: list[int]) -> None:
    """Law 2 begins here: nothing is lost, doubled or moved, no portion is too large, and no two could be one."""
    drafts = [Draft(topic="t", partition=0, key=b"%d" % number, value=VALUES[one]) for number, one in enumerate(chosen)]
    found = list(portions(drafts))
    assert [draft for few in found for draft in few] == drafts
    sizes = [sum(len(draft.value or b"") for draft in few) for few in found]
    assert all(size <= UNDER_WAY_BYTES_MAX for size in sizes)
    assert all(size + after > UNDER_WAY_BYTES_MAX for size, after in pairwise(sizes))


@dataclass
class _Message:
    """What librdkafka hands out: a record, an error of a partition, or an error of the group's coordinator."""

    place: tuple[str | None, int]
    code: int | None = None
    at: int = 7

    def topic(self) -> str | None:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def error(self) -> KafkaError | None:
        return None if self.code is None else KafkaError(self.code)

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return (1, 0)

    def key(self) -> None:
        """None has one."""

    def value(self) -> bytes:
        return b"x"


class _Answers:
    """A consumer that has these messages."""

    def __init__(self, *messages: _Message) -> None:
        self._messages = list(messages)
        self.asked: list[tuple[int, int]] = []

    def assign(self, places: list[BrokerPartition]) -> None:
        self.asked = [(place.partition, place.offset) for place in places]

    def poll(self, _: float) -> _Message | None:
        return self._messages.pop(0) if self._messages else None

    def consume(self, *_: object) -> list[_Message]:
        messages, self._messages = self._messages, []
        return messages

    def close(self) -> None:
        """Nothing is open."""


def test_what_the_coordinator_says_is_no_record() -> None:
    """Nobody joins the group, so that its errors stop no reader: an honest update would be refused as a defect."""
    reader = _reading(_Message((None, 0), KafkaError.GROUP_AUTHORIZATION_FAILED), _Message((BODIES, 0)))
    assert [record.offset for record in reader.poll(0)] == [7]


@pytest.mark.parametrize("lost_first", [True, False])
def test_what_came_together_with_a_lost_offset_is_handed_out(*, lost_first: bool) -> None:
    """Law 2 for readers: a place lost in one partition takes no record of another along, and stays lost."""
    messages = [_Message((BODIES, 1), KafkaError._AUTO_OFFSET_RESET, at=3), _Message((BODIES, 0))]
    reader = _reading(*(messages if lost_first else reversed(messages)))
    assert [(record.partition, record.offset) for record in reader.poll(0)] == [(0, 7)]
    for _ in range(2):
        with pytest.raises(OffsetLost, match=r"bodies\[1\]@3: "):
            reader.poll(0)


def test_an_answer_to_what_was_asked_before_a_seek_is_none() -> None:
    """A reader that was sent elsewhere is not told that the place it came from is lost, and asks for where it is."""
    reader = _reading(_Message((BODIES, 1), KafkaError._AUTO_OFFSET_RESET, at=2), _Message((BODIES, 0)))
    assert [record.offset for record in reader.poll(0)] == [7]
    assert reader._consumer.asked == [(0, 8), (1, 3)]
    assert reader.poll(0) == []


def test_what_is_lost_is_asked_for_once() -> None:
    """Nothing asks again for a lost place, however the reader goes on in others: that answer could meet its close."""
    reader = _reading(_Message((BODIES, 1), KafkaError._AUTO_OFFSET_RESET, at=3))
    with pytest.raises(OffsetLost):
        reader.poll(0)
    reader.seek(TopicPartition("bodies", 0), 9)
    assert reader._consumer.asked == [(0, 9)]
    reader.seek(TopicPartition("bodies", 1), 5)
    assert reader._consumer.asked == [(0, 9), (1, 5)]


def _reading(*messages: _Message) -> BulkReader:
    reader = BulkReader(NOWHERE, {TopicPartition("bodies", 0): 7, TopicPartition("bodies", 1): 3})
    reader.close()
    reader._consumer = _Answers(*messages)  # type: ignore[assignment]
    return reader


def test_the_least_that_is_read_ahead_takes_a_poll_whole() -> None:
    """What one poll brings beyond the body that is wanted is kept: half of a reader's budget is for it."""
    assert AT_ONCE * CHUNK_BYTES <= BUDGET_BYTES_MIN // 2


def test_nobody_waits_for_ever_for_a_reader_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that librdkafka does not let go of is left behind: its process goes on."""
    reader = BulkReader(NOWHERE, {TopicPartition("bodies", 0): 7})
    reader.close()
    never = _Never()
    reader._consumer = never  # type: ignore[assignment]
    monkeypatch.setattr("streams.kafka.bulk.CLOSE_TIMEOUT_S", 0.05)
    reader.close()
    assert never.asked.wait(10)
    never.end.set()


class _Never:
    def __init__(self) -> None:
        self.asked, self.end = threading.Event(), threading.Event()

    def close(self) -> None:
        self.asked.set()
        self.end.wait()


def test_an_appender_takes_its_threads_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each outage of the broker costs an appender; none of them waits for the garbage collector."""
    monkeypatch.setattr("streams.kafka.bulk.APPEND_TIMEOUT_S", 0.5)
    with _no_collection():
        before = _threads()
        appender = Appender(NOWHERE)
        assert _threads() > before
        with pytest.raises(LogUnavailable):
            appender.append([Draft(topic="t", partition=0, value=b"x")])
        del appender
        give_up = time.monotonic() + 10
        while _threads() > before and time.monotonic() < give_up:
            time.sleep(0.01)  # the kernel shows a thread a little longer than it lives
        assert _threads() == before


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
