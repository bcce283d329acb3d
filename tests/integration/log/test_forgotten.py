"""Transactions that a crashed broker has forgotten: readers wait at them, and the next writer aborts them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from kafka import KafkaAdminClient
from kafka import TopicPartition as BrokerPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import InvalidTxnStateError

from schemas.topics import CATALOGUE, PUBLISHED, ROUNDS
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, TopicPartition, scan

JOURNAL, BESIDE = TopicPartition(ROUNDS.name, 1), TopicPartition(PUBLISHED.name, 1)


def test_what_a_broker_has_forgotten_is_ended(kafka_settings: KafkaSettings, kafka_log: KafkaLog) -> None:
    """A transaction of which the coordinator knows nothing holds readers back until the next writer is there.

    Kafka 4.3.1 leaves such ones behind when it is killed in the midst of a commit. Here one is made by not telling it.
    """
    kafka_log.create_topics(CATALOGUE, partitions=2)
    with _without_verification(kafka_settings):
        _write_untold(kafka_log, BrokerPartition(kafka_settings.add_prefix(BESIDE.topic), BESIDE.partition))
    kafka_log.writer("w").commit([Draft(**JOURNAL._asdict(), value=b"a claim")])
    _await_end(kafka_log, JOURNAL, 2)
    assert (kafka_log.bounds(BESIDE).end, kafka_log.find_written_end(BESIDE)) == (0, 1)
    kafka_log.writer("w", settles=[BESIDE])
    _await_end(kafka_log, BESIDE, 2)
    assert [*scan(kafka_log, BESIDE)] == []
    kafka_log.writer("w", settles=[BESIDE]).commit([Draft(**BESIDE._asdict(), value=b"written anew")])
    _await_end(kafka_log, BESIDE, 5)
    assert [record.value for record in scan(kafka_log, BESIDE)] == [b"written anew"]


@contextmanager
def _without_verification(settings: KafkaSettings) -> Iterator[None]:
    """Meanwhile the broker takes records of transactions that its coordinator does not know."""
    name, admin = "transaction.partition.verification.enable", KafkaAdminClient(**settings.client())
    try:
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {name: "false"})])
        yield
    finally:
        admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, "1", {name: "true"})])
        admin.close()


def _write_untold(log: KafkaLog, place: BrokerPartition) -> None:
    """Write one record in a transaction, as if its partition had been added to it."""
    give_up_s = time.monotonic() + 60
    while True:
        writer = log.writer("w")
        writer.begin()
        writer._producer._transaction_manager._partitions_in_transaction.add(place)
        try:
            writer.put([Draft(**BESIDE._asdict(), value=b"forgotten")])
            return
        # A changed setting of a broker holds a moment after it was acknowledged.
        except InvalidTxnStateError:
            assert time.monotonic() < give_up_s


def _await_end(log: KafkaLog, at: TopicPartition, end: int) -> None:
    give_up_s = time.monotonic() + 60
    while log.bounds(at).end < end and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert log.bounds(at).end == end
