"""Much data in order: a reader on librdkafka, which fetches in its own threads; the only importer of confluent-kafka.

It obeys the protocol of `streams.log.Reader`, at about an eighth of the CPU that kafka-python takes for large records.
What lies in its queue is bounded in bytes. It joins no group and commits no offset.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as BrokerPartition

from streams.connection import KafkaSettings
from streams.log import LogRefused, OffsetLost, Record, TopicPartition

# Fetched and not yet handed out: the queue is filled up to its mark, and then by one more answer of the broker.
QUEUE_BYTES = 16 * 2**20
FETCH_BYTES_MAX = 8 * 2**20
AT_ONCE = 16  # records that one poll hands out: with chunks of half a megabyte no more than the broker's answer

_LOST = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNSUPPORTED_VERSION,
}

_log = structlog.get_logger(__name__)


class BulkReader:
    """Reads committed records of some partitions; see `streams.log.Reader`."""

    def __init__(self, settings: KafkaSettings, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = dict(positions)
        self._places = {at: (settings.named(at.topic), at.partition) for at in positions}
        self._names = {place: at for at, place in self._places.items()}
        self._refused: KafkaError | None = None
        self._consumer = Consumer(_options(settings, self._heard), logger=logging.getLogger("librdkafka"))
        self._assign()

    def poll(self, timeout_s: float) -> list[Record]:
        # `consume` would wait until it has as many as it was asked for: wait for the first, take what else is there.
        first = self._consumer.poll(timeout_s)
        messages = [] if first is None else [first, *self._consumer.consume(AT_ONCE - 1, 0)]
        if self._refused is not None:
            raise LogRefused(f"reading: {self._refused.str()}")
        return [record for message in messages if (record := self._taken(message)) is not None]

    def position(self, at: TopicPartition) -> int:
        return self._positions[at]

    def seek(self, at: TopicPartition, offset: int) -> None:
        # librdkafka's own seek fails on a partition that it has not begun to fetch; to assign anew never does.
        self._positions[at] = offset
        self._assign()

    def close(self) -> None:
        self._consumer.close()

    def _assign(self) -> None:
        self._consumer.assign([BrokerPartition(*place, self._positions[at]) for at, place in self._places.items()])

    def _taken(self, message: Any) -> Record | None:
        at = self._names[message.topic(), message.partition()]
        error = message.error()
        if error is None:
            self._positions[at] = message.offset() + 1
            return Record(
                at.topic, at.partition, message.offset(), message.timestamp()[1], message.key(), message.value()
            )
        if error.code() == KafkaError._PARTITION_EOF:
            # Markers and records that were compacted away are passed over without a word: the end tells of them.
            self._positions[at] = message.offset()
        elif error.code() in _LOST:
            raise OffsetLost(f"reading {at.topic}/{at.partition} at {self._positions[at]}: {error.str()}")
        else:
            self._heard(error)
        return None

    def _heard(self, error: KafkaError) -> None:
        """What goes wrong beside the records: a broker that is away is waited for, one that says no is believed."""
        if error.code() in _REFUSED:
            self._refused = error
        _log.debug("waiting for the broker", error=error.str())


def _options(settings: KafkaSettings, heard: Any) -> dict[str, Any]:
    given = {
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": settings.sasl_password,
        "ssl.ca.location": settings.ssl_cafile,
        "ssl.certificate.location": settings.ssl_certfile,
        "ssl.key.location": settings.ssl_keyfile,
    }
    return {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": settings.client_id,
        "security.protocol": settings.security_protocol,
        **{name: value for name, value in given.items() if value is not None},
        # Demanded by the library, and used for nothing: partitions are assigned by hand, offsets stay here.
        "group.id": settings.named("bodies"),
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": QUEUE_BYTES // 1024,
        "fetch.message.max.bytes": FETCH_BYTES_MAX,
        "fetch.queue.backoff.ms": 5,
        "fetch.error.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1000,
        "error_cb": heard,
    }
