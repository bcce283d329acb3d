"""What is made of librdkafka's messages and errors on reading."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as BrokerPartition

from schemas.identifiers import CHUNK_BYTES
from streams.bodies import BUDGET_BYTES_MIN
from streams.kafka.bulk_reader import POLL_RECORDS_MAX, BulkReader
from streams.kafka.settings import KafkaSettings
from streams.log import OffsetLost, TopicPartition

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:9")
BODIES = NOWHERE.add_prefix("bodies")


@dataclass
class _Message:
    """What librdkafka hands out: a record, an error of a partition, or an error of the group's coordinator."""

    place: tuple[str | None, int]
    code: int | None = None
    at: int | None = 7

    def topic(self) -> str | None:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def error(self) -> KafkaError | None:
        return None if self.code is None else KafkaError(self.code)

    def offset(self) -> int | None:
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


def test_a_lost_offset_that_is_not_named_is_lost_all_the_same() -> None:
    """librdkafka names no offset where it has none that is valid; the reader's own position is the lost one then."""
    reader = _reading(_Message((BODIES, 1), KafkaError._AUTO_OFFSET_RESET, at=None))
    with pytest.raises(OffsetLost, match=r"bodies\[1\]@3: "):
        reader.poll(0)


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
    assert POLL_RECORDS_MAX * CHUNK_BYTES <= BUDGET_BYTES_MIN // 2


def test_nobody_waits_for_ever_for_a_reader_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that librdkafka does not let go of is left behind: its process goes on."""
    reader = BulkReader(NOWHERE, {TopicPartition("bodies", 0): 7})
    reader.close()
    never = _Never()
    reader._consumer = never  # type: ignore[assignment]
    monkeypatch.setattr("streams.kafka.bulk_reader.CLOSE_TIMEOUT_S", 0.05)
    reader.close()
    assert never.asked.wait(60)
    never.end.set()


class _Never:
    def __init__(self) -> None:
        self.asked, self.end = threading.Event(), threading.Event()

    def close(self) -> None:
        self.asked.set()
        self.end.wait()
