"""Reads committed records through kafka-python: quick to start and to seek, for what is read a little at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka import KafkaConsumer
from kafka import TopicPartition as BrokerPartition

from streams.kafka.errors import translate_errors
from streams.kafka.settings import BROKER_RELEASE_MIN, KafkaSettings
from streams.log import LogUnavailable, Record, TopicPartition
from streams.retry import Outage

# A reader holds about two answers of the broker: one being handed out, one on its way.
FETCH_BYTES_MAX = 16 * 2**20
FETCH_PARTITION_BYTES_MAX = 8 * 2**20
CONNECT_TIMEOUT_MIN_S = 1.0


class KafkaReader:
    """A consumer without a group; it is made at the first poll that finds a broker."""

    def __init__(self, settings: KafkaSettings, positions: Mapping[TopicPartition, int], *, outage: Outage) -> None:
        self._settings, self._outage = settings, outage
        self._positions = dict(positions)
        self._partitions = {self._broker_partition(at): at for at in positions}
        # Made later, because kafka-python raises where no broker answers, and a reader must not.
        self._consumer: KafkaConsumer | None = None

    def poll(self, timeout_s: float) -> list[Record]:
        """The next records; see `streams.log.Reader`."""
        try:
            with translate_errors("reading"):
                consumer = self._consumer or self._connect(timeout_s)
                answer = consumer.poll(timeout_ms=int(timeout_s * 1000))
        except LogUnavailable as error:
            # A reader waits for its broker: it hands out nothing, and its position stays.
            self._outage.note_silence(str(error))
            return []
        if answer:
            self._outage.note_answer()
        return [_to_record(self._partitions[name], item) for name, items in answer.items() for item in items]

    def position(self, at: TopicPartition) -> int:
        """The offset after the last record or marker passed."""
        if self._consumer is None:
            return self._positions[at]
        with translate_errors(f"reading {at}"):
            return int(self._consumer.position(self._broker_partition(at), timeout_ms=0))

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Go on reading `at` from `offset`."""
        self._positions[at] = offset
        if self._consumer is not None:
            self._consumer.seek(self._broker_partition(at), offset)

    def close(self) -> None:
        """Release its connections."""
        if self._consumer is not None:
            self._consumer.close()

    def _connect(self, timeout_s: float) -> KafkaConsumer:
        connection = self._settings.client()
        # Not asked for: an older broker is refused by whoever writes, and to ask takes three times as long as the rest.
        connection["api_version"] = BROKER_RELEASE_MIN
        connection["bootstrap_timeout_ms"] = int(max(CONNECT_TIMEOUT_MIN_S, timeout_s) * 1000)
        consumer = KafkaConsumer(
            group_id=None,
            enable_auto_commit=False,
            # A lost position is an error to report: a client that resets by itself would skip records.
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=FETCH_PARTITION_BYTES_MAX,
            metrics_enabled=False,
            **connection,
        )
        consumer.assign(list(self._partitions))
        for name, at in self._partitions.items():
            consumer.seek(name, self._positions[at])
        self._consumer = consumer
        return consumer

    def _broker_partition(self, at: TopicPartition) -> BrokerPartition:
        return BrokerPartition(self._settings.add_prefix(at.topic), at.partition)


def _to_record(at: TopicPartition, item: Any) -> Record:
    return Record(at.topic, at.partition, item.offset, item.timestamp, item.key, item.value)
