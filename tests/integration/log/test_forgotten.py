"""Transactions that a crashed broker has forgotten: readers wait at them, and the next writer aborts them."""

from __future__ import annotations

import time

from schemas.topics import CATALOGUE, PUBLISHED, ROUNDS
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, scan
from tests.worlds.deployment.forgotten import forget_transaction

JOURNAL, BESIDE = TopicPartition(ROUNDS.name, 1), TopicPartition(PUBLISHED.name, 1)


def test_what_a_broker_has_forgotten_is_ended(kafka_settings: KafkaSettings, kafka_log: KafkaLog) -> None:
    """A transaction of which the coordinator knows nothing holds readers back until the next writer is there.

    Kafka 4.3.1 leaves such ones behind when it is killed in the midst of a commit. Here one is made by not telling it.
    """
    kafka_log.create_topics(CATALOGUE, partitions=2)
    forget_transaction(kafka_settings, kafka_log, at=BESIDE)
    kafka_log.writer("w").commit([Draft(**JOURNAL._asdict(), value=b"a claim")])
    _await_end(kafka_log, JOURNAL, 2)
    assert (kafka_log.bounds(BESIDE).end, kafka_log.find_written_end(BESIDE)) == (0, 1)
    kafka_log.writer("w", settles=[BESIDE])
    _await_end(kafka_log, BESIDE, 2)
    assert [*scan(kafka_log, BESIDE)] == []
    kafka_log.writer("w", settles=[BESIDE]).commit([Draft(**BESIDE._asdict(), value=b"written anew")])
    _await_end(kafka_log, BESIDE, 5)
    assert [record.value for record in scan(kafka_log, BESIDE)] == [b"written anew"]


def _await_end(log: KafkaLog, at: TopicPartition, end: int) -> None:
    give_up_s = time.monotonic() + 60
    while log.bounds(at).end < end and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert log.bounds(at).end == end
