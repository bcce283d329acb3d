"""Reads much data in order, on librdkafka with its own threads.

It obeys `streams.log.Reader` at a third (small records) to an eighth (large ones) of the CPU of kafka-python, but is
slow to start and to seek. What lies in its queue is bounded in bytes. It joins no group and commits no offset.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError
from confluent_kafka import TopicPartition as BrokerPartition

from streams.kafka.librdkafka import LOST, librdkafka_logger, note_client_error, read_offset
from streams.kafka.settings import KafkaSettings
from streams.log import LogError, LogRefused, OffsetLost, Place, Record, TopicPartition
from streams.notes import Notes

# The queue of fetched records is filled up to this mark, and then by one more answer of the broker.
QUEUE_BYTES = 16 * 2**20
FETCH_BYTES_MAX = 8 * 2**20
# One poll hands out no more records than one answer of the broker brings, when each is a chunk of half a megabyte.
POLL_RECORDS_MAX = 16
CLOSE_TIMEOUT_S = 10.0

logger = Notes(__name__)


class BulkReader:
    """Reads committed records of some partitions; see `streams.log.Reader`.

    A lost position stays lost until `seek`; records of other partitions that came with it are handed out first. The
    broker is not asked for it again: when the answer comes while the consumer is being closed, librdkafka deadlocks
    (its issue 4514).
    """

    def __init__(self, settings: KafkaSettings, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = dict(positions)
        self._lost: dict[TopicPartition, str] = {}
        self._must_assign = False
        self._names = {at: (settings.add_prefix(at.topic), at.partition) for at in positions}
        self._partitions = {name: at for at, name in self._names.items()}
        # No method of this object is handed over: the two would hold each other, and with them librdkafka's threads.
        self._refusals: list[KafkaError] = []
        options = _consumer_options(settings, partial(note_client_error, self._refusals))
        self._consumer = Consumer(options, logger=librdkafka_logger)
        self._assign()

    def poll(self, timeout_s: float) -> list[Record]:
        """The next records, or OffsetLost once nothing else is left to hand out."""
        records = [] if self._lost else self._poll_consumer(timeout_s)
        if self._lost and not records:
            raise OffsetLost(next(iter(self._lost.values())))
        return records

    def position(self, at: TopicPartition) -> int:
        """The offset after the last record or marker passed."""
        return self._positions[at]

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Go on reading `at` from `offset`."""
        # librdkafka's own seek fails on a partition that it has not begun to fetch; a new assignment never does.
        self._positions[at] = offset
        self._lost.pop(at, None)
        self._assign()

    def close(self) -> None:
        """Release its connections, or leave them behind after a timeout."""
        # In a thread, because the deadlock described above can also meet the answer to a first request.
        thread = threading.Thread(target=self._consumer.close, name="close", daemon=True)
        thread.start()
        thread.join(CLOSE_TIMEOUT_S)
        if thread.is_alive():
            logger.warning("reader_left_open", partitions=len(self._names), timeout_s=CLOSE_TIMEOUT_S)

    def _poll_consumer(self, timeout_s: float) -> list[Record]:
        # `consume` would wait until it has all that it was asked for: wait for the first, take what else is there.
        first = self._consumer.poll(timeout_s)
        messages = [] if first is None else [first, *self._consumer.consume(POLL_RECORDS_MAX - 1, 0)]
        if self._refusals:
            raise LogRefused(f"reading: {self._refusals[-1].str()}")
        records = [record for message in messages if (record := self._take(message)) is not None]
        if self._must_assign:
            self._must_assign = False
            self._assign()
        return records

    def _assign(self) -> None:
        names = {at: name for at, name in self._names.items() if at not in self._lost}
        self._consumer.assign([BrokerPartition(*name, self._positions[at]) for at, name in names.items()])

    def _take(self, message: Any) -> Record | None:
        at = self._partitions.get((message.topic(), message.partition()))
        error = message.error()
        if at is None:
            # It concerns no partition: it comes from the coordinator of the group, which no reader joins.
            note_client_error(self._refusals, error)
            return None
        if error is not None:
            self._take_error(at, error, offset=read_offset(message))
            return None
        self._positions[at] = message.offset() + 1
        return Record(at.topic, at.partition, message.offset(), message.timestamp()[1], message.key(), message.value())

    def _take_error(self, at: TopicPartition, error: KafkaError, *, offset: int) -> None:
        """Raises LogError for what the client would ask for again and again: who waits for it must learn why."""
        if error.code() == KafkaError._PARTITION_EOF:
            # librdkafka passes markers and compacted records silently; only the end says how far it has come.
            self._positions[at] = offset
        elif error.code() == KafkaError._BAD_COMPRESSION:
            raise LogError(f"reading {Place(at, self._positions[at])}: {error.str()}")
        elif error.code() not in LOST:
            note_client_error(self._refusals, error)
        elif 0 <= offset != self._positions[at]:
            # The answer to a request from before the last `seek`, or from behind a marker.
            self._must_assign = True
        else:
            self._lost[at] = f"reading {Place(at, self._positions[at])}: {error.str()}"


def _consumer_options(settings: KafkaSettings, on_error: Any) -> dict[str, Any]:
    return settings.librdkafka() | {
        # librdkafka demands a group, which is used for nothing: partitions are assigned by hand, offsets stay here.
        "group.id": settings.add_prefix("bodies"),
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "queued.max.messages.kbytes": QUEUE_BYTES // 1024,
        "fetch.message.max.bytes": FETCH_BYTES_MAX,
        "fetch.queue.backoff.ms": 5,
        "fetch.error.backoff.ms": 100,
        "error_cb": on_error,
    }
