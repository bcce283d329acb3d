"""Topics are created with one number of partitions for all, in memory as on Kafka, and checked ever after."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field

import pytest

from schemas.topics import ROUNDS, TASKS, UPDATES
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, TopicUnfit, scan
from streams.memory import MemoryLog

Log = KafkaLog | MemoryLog


@dataclass(frozen=True)
class Spec:
    """A topic of these tests."""

    name: str
    config: dict[str, str] = field(
        default_factory=lambda: {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "delete"}
    )


@pytest.fixture(params=["memory", "kafka"])
def log(request: pytest.FixtureRequest) -> Log:
    """Each implementation in turn, without topics."""
    if request.param == "memory":
        return MemoryLog()
    kafka: KafkaLog = request.getfixturevalue("kafka_log")
    return kafka


def test_topics_are_created_once_and_checked(log: Log) -> None:
    """Creating again changes nothing; a topic with another clock, clean-up or partition count is named."""
    assert log.create_topics([Spec("events")], partitions=2) == ["events"]
    assert log.create_topics([Spec("events"), Spec("third")]) == ["third"]
    assert log.create_topics([Spec("events"), Spec("third")]) == []
    with pytest.raises(TopicUnfit, match="have 2 partitions, not 3"):
        log.create_topics([Spec("events"), Spec("fourth")], partitions=3)
    log.create_topics([Spec("plain", config={})])
    wanted = {"message.timestamp.type": "LogAppendTime", "cleanup.policy": "compact"}
    with pytest.raises(TopicUnfit, match=r"(?s)timestamp.type is .*LogAppendTime.*cleanup.policy is .*compact"):
        log.create_topics([Spec("plain", config=wanted)])


@pytest.mark.parametrize("partitions", [1, 3, 64])
def test_a_log_knows_its_partitions(log: Log, partitions: int) -> None:
    """As many as the topics were created with; the last one is there, and the number never changes."""
    assert log.create_topics([TASKS, ROUNDS], partitions=partitions) == ["tasks", "rounds"]
    assert log.partitions == partitions
    last = TopicPartition("rounds", partitions - 1)
    assert log.append([Draft(topic=last.topic, partition=last.partition, value=b"a")]) == [0]
    assert [record.value for record in scan(log, last, start=0, end=1)] == [b"a"]
    assert log.create_topics([TASKS, ROUNDS, UPDATES]) == ["updates"]
    with pytest.raises(TopicUnfit, match=f"have {partitions} partitions, not 2"):
        log.create_topics([TASKS, ROUNDS], partitions=2)


def test_kafka_with_a_topic_that_differs_is_refused(kafka_settings: KafkaSettings, kafka_log: KafkaLog) -> None:
    """Nobody believes the number of one topic: where another has more, the log is not used, and it is named."""
    with pytest.raises(TopicUnfit, match="topics create"):
        _ = kafka_log.partitions
    kafka_log.create_topics([TASKS], partitions=3)
    assert kafka_log.partitions == 3
    kafka_log.create_topics([ROUNDS], partitions=4)
    fresh = KafkaLog(kafka_settings)
    with closing(fresh), pytest.raises(TopicUnfit, match="rounds: partitions is 4, wanted 3"):
        _ = fresh.partitions
    with pytest.raises(TopicUnfit, match="rounds: partitions is 4, wanted 3"):
        kafka_log.check_topics([TASKS, ROUNDS])
