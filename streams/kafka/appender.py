"""Appends plain records on librdkafka with its own threads, in one request an append."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.topics import BATCH_BYTES_MAX
from streams.kafka.librdkafka import append_error, librdkafka_logger, note_client_error, read_offset
from streams.kafka.settings import REQUEST_TIMEOUT_S, KafkaSettings
from streams.log import Draft, LogUnavailable

APPEND_TIMEOUT_S = 30.0
# Never waited for, because every append flushes; without it a record would leave before the next one joins it.
LINGER_MS = 100
# librdkafka spins while a record is queued behind a request that the socket has not taken whole. With more than two
# requests of all threads in its queue that took more CPU than sending.
IN_FLIGHT_BYTES_MAX = 2**20
POLL_S = 0.1


class Appender:
    """Appends plain records, each written once however often it is sent; for any thread.

    After an error it is to be dropped, and with it what it has not delivered and the memory of what it has sent.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._refusals: list[KafkaError] = []
        options = _producer_options(settings, partial(note_client_error, self._refusals))
        self._producer = Producer(options, logger=librdkafka_logger)
        self._room = Room()

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        """As `streams.log.EventLog.append`; raises LogUnavailable, LogRefused, LogError.

        Each portion has APPEND_TIMEOUT_S to arrive, one after the other.
        """
        offsets: list[int] = []
        for portion in split_into_portions(drafts):
            with self._room.take(sum(len(draft.value or b"") for draft in portion)):
                offsets += self._append(portion)
        return offsets

    def _append(self, drafts: Sequence[Draft]) -> list[int]:
        waiting = set(range(len(drafts)))
        offsets = [-1] * len(drafts)
        errors: list[KafkaError] = []

        def deliver(error: KafkaError | None, message: Any, *, number: int) -> None:
            waiting.discard(number)
            if error is not None:
                errors.append(error)
            else:
                offsets[number] = read_offset(message)

        try:
            for number, draft in enumerate(drafts):
                self._produce(draft, partial(deliver, number=number))
            while waiting:
                if self._refusals:
                    raise append_error(self._refusals[-1])
                # Flushing sends them all in one request; the thread that waits here serves the others too.
                self._producer.flush(POLL_S)
        except KafkaException as error:
            # An error that ends a producer for good is raised by its next call, whatever that is.
            raise append_error(error.args[0]) from error
        if errors:
            raise append_error(errors[0])
        # A broker that already had the record, and no longer remembers where, answers without an offset.
        if min(offsets, default=0) < 0:
            raise LogUnavailable("appending: the broker did not say at which offset a record stands")
        return offsets

    def _produce(self, draft: Draft, on_delivery: Any) -> None:
        topic = self._settings.add_prefix(draft.topic)
        while True:
            try:
                return self._producer.produce(
                    topic, value=draft.value, key=draft.key, partition=draft.partition, on_delivery=on_delivery
                )
            except BufferError:
                # The queue is full: wait until something of it has been delivered.
                self._producer.poll(POLL_S)


class Room:
    """What all threads of an appender have in its queue: together no more than one may have."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._queued_bytes = 0
        self._is_over = False

    @contextmanager
    def take(self, size: int) -> Iterator[None]:
        """Wait until so many bytes fit, which are queued meanwhile. Raises LogUnavailable when another has failed."""
        with self._changed:
            while not self._is_over and self._queued_bytes and self._queued_bytes + size > IN_FLIGHT_BYTES_MAX:
                self._changed.wait()
            # Each would find out for itself, one after the other, and take as long for it as the first.
            if self._is_over:
                raise LogUnavailable("appending: the append before has failed")
            self._queued_bytes += size
        try:
            yield
        except BaseException:
            self._is_over = True
            raise
        finally:
            with self._changed:
                self._queued_bytes -= size
                self._changed.notify_all()


def split_into_portions(drafts: Iterable[Draft]) -> Iterator[list[Draft]]:
    """The same drafts in the same order, each time as many as fit into IN_FLIGHT_BYTES_MAX."""
    portion: list[Draft] = []
    portion_bytes = 0
    for draft in drafts:
        size = len(draft.value or b"")
        if portion_bytes + size > IN_FLIGHT_BYTES_MAX:
            yield portion
            portion, portion_bytes = [], 0
        portion.append(draft)
        portion_bytes += size
    if portion:
        yield portion


def _producer_options(settings: KafkaSettings, on_error: Any) -> dict[str, Any]:
    return settings.librdkafka() | {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": LINGER_MS,
        # It counts as brokers do, whole batches: a longer one would be refused with all that is in it.
        "message.max.bytes": BATCH_BYTES_MAX,
        "delivery.timeout.ms": int(APPEND_TIMEOUT_S * 1000),
        "request.timeout.ms": int(REQUEST_TIMEOUT_S * 1000),
        # How long a topic that is not there is looked for before an append fails.
        "topic.metadata.propagation.max.ms": int(REQUEST_TIMEOUT_S * 1000),
        "error_cb": on_error,
    }
