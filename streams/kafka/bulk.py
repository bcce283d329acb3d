"""What moves much data, on librdkafka with its own threads: a reader and an appender; the only importer of it.

They obey the protocol of `streams.log` at a third (small records) to an eighth (large ones) of the CPU of kafka-python.
What lies in their queues is bounded in bytes. The reader joins no group and commits no offset.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition as BrokerPartition

from streams.kafka.settings import REQUEST_TIMEOUT_S, KafkaSettings
from streams.log import Draft, LogError, LogRefused, LogUnavailable, OffsetLost, Place, Record, TopicPartition

# Fetched and not yet handed out: the queue is filled up to its mark, and then by one more answer of the broker.
QUEUE_BYTES = 16 * 2**20
FETCH_BYTES_MAX = 8 * 2**20
AT_ONCE = 16  # records that one poll hands out: with chunks of half a megabyte no more than the broker's answer
APPEND_TIMEOUT_S = 30.0
LINGER_MS = 100  # never waited for, because every append flushes; without it a record would leave before the next
BATCH_BYTES_MAX = 1_040_000  # room for the largest record and its header, within what a broker takes
# Of a partition five requests are under way at most, each more than half full. For what it holds beyond them librdkafka
# waits in a busy loop, which took more CPU than to send it.
UNDER_WAY_BYTES_MAX = 5 * 2**19

_LOST = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
_REFUSED = {
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.UNSUPPORTED_VERSION,
}

# Of an append: nobody can say what the log holds now, and it may be tried again.
_AWAY = {
    KafkaError._MSG_TIMED_OUT,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    # The end of this appender, and not of the next: the broker forgot what it has sent. What had not left is purged.
    KafkaError._FATAL,
    KafkaError._PURGE_QUEUE,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
}
POLL_S = 0.1
CLOSE_TIMEOUT_S = 10.0

_log = structlog.get_logger(__name__)
# Heard by whoever wants to hear it; on a console it would be noise between the lines.
_librdkafka = logging.getLogger("librdkafka")
_librdkafka.addHandler(logging.NullHandler())


class BulkReader:
    """Reads committed records of some partitions; see `streams.log.Reader`.

    What is lost stays lost until `seek`; records of other partitions that came with it are handed out first. To ask
    the broker for it again and again would be a trap: when the answer comes while it is being closed, librdkafka
    locks itself up for ever (its issue 4514).
    """

    def __init__(self, settings: KafkaSettings, positions: Mapping[TopicPartition, int]) -> None:
        self._positions = dict(positions)
        self._lost: dict[TopicPartition, str] = {}
        self._asked_elsewhere = False
        self._places = {at: (settings.named(at.topic), at.partition) for at in positions}
        self._names = {place: at for at, place in self._places.items()}
        # No method of this object is handed over: the two would hold each other, and with them librdkafka's threads.
        self._refused: list[KafkaError] = []
        self._consumer = Consumer(_reading(settings, partial(_heard, self._refused)), logger=_librdkafka)
        self._assign()

    def poll(self, timeout_s: float) -> list[Record]:
        records = [] if self._lost else self._polled(timeout_s)
        if self._lost and not records:
            raise OffsetLost(next(iter(self._lost.values())))
        return records

    def position(self, at: TopicPartition) -> int:
        return self._positions[at]

    def seek(self, at: TopicPartition, offset: int) -> None:
        # librdkafka's own seek fails on a partition that it has not begun to fetch; to assign anew never does.
        self._positions[at] = offset
        self._lost.pop(at, None)
        self._assign()

    def close(self) -> None:
        # Nobody waits for ever, for that answer can come to the first question too.
        closing = threading.Thread(target=self._consumer.close, name="close", daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT_S)
        if closing.is_alive():
            _log.warning("reader_left_open", partitions=len(self._places), timeout_s=CLOSE_TIMEOUT_S)

    def _polled(self, timeout_s: float) -> list[Record]:
        # `consume` would wait until it has as many as it was asked for: wait for the first, take what else is there.
        first = self._consumer.poll(timeout_s)
        messages = [] if first is None else [first, *self._consumer.consume(AT_ONCE - 1, 0)]
        if self._refused:
            raise LogRefused(f"reading: {self._refused[-1].str()}")
        records = [record for message in messages if (record := self._taken(message)) is not None]
        if self._asked_elsewhere:
            self._asked_elsewhere = False
            self._assign()
        return records

    def _assign(self) -> None:
        asked = {at: place for at, place in self._places.items() if at not in self._lost}
        self._consumer.assign([BrokerPartition(*place, self._positions[at]) for at, place in asked.items()])

    def _taken(self, message: Any) -> Record | None:
        at = self._names.get((message.topic(), message.partition()))
        error = message.error()
        if at is None:
            # Nothing about a partition: it comes from the coordinator of the group, which nobody joins.
            _heard(self._refused, error)
            return None
        if error is None:
            self._positions[at] = message.offset() + 1
            return Record(
                at.topic, at.partition, message.offset(), message.timestamp()[1], message.key(), message.value()
            )
        if error.code() == KafkaError._PARTITION_EOF:
            # Markers and records that were compacted away are passed over without a word: the end tells of them.
            self._positions[at] = message.offset()
        elif error.code() in _LOST:
            if 0 <= message.offset() != self._positions[at]:
                self._asked_elsewhere = True  # it was asked before the last `seek`, or behind a marker
                return None
            self._lost[at] = f"reading {Place(at, self._positions[at])}: {error.str()}"
        else:
            _heard(self._refused, error)
        return None


def portions(drafts: Iterable[Draft]) -> Iterator[list[Draft]]:
    """The same drafts in the same order, each time as many as fit into UNDER_WAY_BYTES_MAX."""
    few: list[Draft] = []
    size_bytes = 0
    for draft in drafts:
        size = len(draft.value or b"")
        if size_bytes + size > UNDER_WAY_BYTES_MAX:
            yield few
            few, size_bytes = [], 0
        few.append(draft)
        size_bytes += size
    if few:
        yield few


class Appender:
    """Appends plain records, each written once however often it is sent; for any thread.

    After an error it is to be let go of, and with it what it has not delivered, and the memory of what it has sent.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._refused: list[KafkaError] = []
        self._producer = Producer(_producing(settings, partial(_heard, self._refused)), logger=_librdkafka)

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        """As `streams.log.EventLog.append`; raises LogUnavailable, LogRefused, LogError.

        Each UNDER_WAY_BYTES_MAX have APPEND_TIMEOUT_S to arrive, one after the other.
        """
        return [offset for few in portions(drafts) for offset in self._append(few)]

    def _append(self, drafts: Sequence[Draft]) -> list[int]:
        waiting = set(range(len(drafts)))
        offsets = [-1] * len(drafts)
        errors: list[KafkaError] = []

        def told(error: KafkaError | None, message: Any, *, number: int) -> None:
            waiting.discard(number)
            if error is not None:
                errors.append(error)
            else:
                offsets[number] = message.offset()

        try:
            for number, draft in enumerate(drafts):
                self._produce(draft, partial(told, number=number))
            while waiting:
                if self._refused:
                    raise _log_error(self._refused[-1])
                # To flush is what sends them, all in one request; who waits here serves the other threads too.
                self._producer.flush(POLL_S)
        except KafkaException as error:  # what ends a producer for good is raised by whatever it is asked for next
            raise _log_error(error.args[0]) from error
        if errors:
            raise _log_error(errors[0])
        # An answer to a record that the broker had already and no longer remembers comes without its offset.
        if min(offsets, default=0) < 0:
            raise LogUnavailable("appending: the broker did not say at which offset a record stands")
        return offsets

    def _produce(self, draft: Draft, told: Any) -> None:
        topic = self._settings.named(draft.topic)
        while True:
            try:
                return self._producer.produce(
                    topic, value=draft.value, key=draft.key, partition=draft.partition, on_delivery=told
                )
            except BufferError:  # its queue is full
                self._producer.poll(POLL_S)


def _heard(refused: list[KafkaError], error: KafkaError) -> None:
    """What goes wrong beside the records: a broker that is away is waited for, one that says no is believed."""
    if error.code() in _REFUSED:
        refused.append(error)
    _log.debug("waiting for the broker", error=error.str())


def _log_error(error: KafkaError) -> LogError:
    is_away = error.retriable() or error.code() in _AWAY
    kind = LogRefused if error.code() in _REFUSED else LogUnavailable if is_away else LogError
    return kind(f"appending: {error.str()}")


def _producing(settings: KafkaSettings, heard: Any) -> dict[str, Any]:
    return _connecting(settings) | {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": LINGER_MS,
        "message.max.bytes": BATCH_BYTES_MAX,
        "delivery.timeout.ms": int(APPEND_TIMEOUT_S * 1000),
        "request.timeout.ms": int(REQUEST_TIMEOUT_S * 1000),
        # What an append is told of a topic that is not there.
        "topic.metadata.propagation.max.ms": int(REQUEST_TIMEOUT_S * 1000),
        "error_cb": heard,
    }


def _reading(settings: KafkaSettings, heard: Any) -> dict[str, Any]:
    return _connecting(settings) | {
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
        "error_cb": heard,
    }


def _connecting(settings: KafkaSettings) -> dict[str, Any]:
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
        "reconnect.backoff.max.ms": 1000,
    }
