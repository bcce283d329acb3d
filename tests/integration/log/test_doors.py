"""The log's doors on a real broker: what it keeps out, whatever a stranger's client is set to."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.topics import BATCH_BYTES_MAX, CATALOGUE, UPDATES
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import LogError, Reader, TopicPartition, TopicUnfit, scan
from tests.trials.attacks.strangers import CODECS, alter, send

AT = TopicPartition(UPDATES.name, 0)


@pytest.mark.parametrize("codec", CODECS)
def test_a_bomb_is_refused_by_the_broker(kafka_log: KafkaLog, kafka_settings: KafkaSettings, codec: str) -> None:
    """A record is weighed as it is when it is opened: no reader has to open one that fills its memory."""
    kafka_log.create_topics([UPDATES])
    bomb = bytes(4 * BATCH_BYTES_MAX)
    error = send(kafka_settings, AT, bomb, **{"compression.type": codec})
    assert error is not None
    assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert kafka_log.bounds(AT).end == 0
    assert send(kafka_settings, AT, b"x" * 1000, **{"compression.type": codec}) is None
    assert [record.value for record in scan(kafka_log, AT)] == [b"x" * 1000]


def test_a_transaction_that_could_hang_for_long_is_refused(kafka_settings: KafkaSettings) -> None:
    """Whoever asks for more than 15 seconds gets no transaction."""
    options = {"transactional.id": kafka_settings.add_prefix("stranger"), "transaction.timeout.ms": 15_001}
    producer = Producer({**kafka_settings.librdkafka(), **options})
    with pytest.raises(KafkaException) as caught:
        producer.init_transactions(30)
    assert caught.value.args[0].code() == KafkaError.INVALID_TRANSACTION_TIMEOUT


def test_a_topic_with_an_open_door_is_found(kafka_log: KafkaLog, kafka_settings: KafkaSettings) -> None:
    """The settings are read from the cluster and not remembered: what somebody has changed is named."""
    kafka_log.create_topics(CATALOGUE)
    kafka_log.check_topics(CATALOGUE)
    alter(kafka_log, kafka_settings, UPDATES.name, UPDATES.config | {"compression.type": "producer"})
    with pytest.raises(TopicUnfit) as caught:
        kafka_log.check_topics(CATALOGUE)
    assert "topic updates: compression.type is producer, wanted uncompressed" in str(caught.value)


def test_a_bomb_from_before_is_told(kafka_log: KafkaLog, kafka_settings: KafkaSettings) -> None:
    """A topic that once had other settings may hold a frame that librdkafka does not open: the reader says where.

    It would ask for it again and again otherwise, and nobody behind it would learn why he waits.
    """
    kafka_log.create_topics([UPDATES])
    open_doors = UPDATES.config | {"compression.type": "producer", "max.message.bytes": "1048588"}
    alter(kafka_log, kafka_settings, UPDATES.name, open_doors)
    assert send(kafka_settings, AT, bytes(105_000_000), **{"compression.type": "zstd"}) is None
    reader = kafka_log.bulk_reader({AT: 0})
    with pytest.raises(LogError, match=r"reading updates\[0\]@0: Decompression"):
        poll_for(reader, seconds=60)
    reader.close()


def poll_for(reader: Reader, seconds: float) -> None:
    """Read until something is wrong, with an end."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        reader.poll(0.5)
