"""What a stranger does with any Kafka client at all, and what an operator does with the cluster's own tools."""

from __future__ import annotations

import time
from contextlib import closing

from confluent_kafka import KafkaError, Producer
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition

CODECS = ("gzip", "snappy", "lz4", "zstd")


def send(settings: KafkaSettings, at: TopicPartition, value: bytes, **options: object) -> KafkaError | None:
    """Send one record with a client of any options; the error that came back."""
    limits = {"message.max.bytes": 1_000_000_000, "queue.buffering.max.kbytes": 2_000_000}
    producer = Producer({**settings.librdkafka(), **limits, **options})
    told: list[KafkaError | None] = []
    producer.produce(
        settings.add_prefix(at.topic), value, partition=at.partition, on_delivery=lambda error, _: told.append(error)
    )
    assert producer.flush(60) == 0
    return told[0]


def alter(log: KafkaLog, settings: KafkaSettings, topic: str, changes: dict[str, str]) -> None:
    """Change settings of a topic, and wait until the broker has them."""
    with closing(KafkaAdminClient(**settings.client())) as client:
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.add_prefix(topic), changes)])
    give_up = time.monotonic() + 20
    while not changes.items() <= log.describe_topics([topic])[topic].config.items():
        assert time.monotonic() < give_up
        time.sleep(0.05)
