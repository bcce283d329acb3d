"""The fenced writer of a journal partition: a transactional producer of kafka-python.

Brokers below 2.8 are refused: there a fenced kafka-python producer can renew itself and fence its successor.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from itertools import takewhile
from queue import Empty, SimpleQueue
from typing import Any

from kafka import KafkaProducer, errors
from kafka import TopicPartition as BrokerPartition

from schemas.topics import BATCH_BYTES_MAX, TRANSACTION_TIMEOUT_MAX_MS
from streams.kafka.errors import is_fencing, translate_errors
from streams.kafka.settings import BROKER_RELEASE_MIN, KafkaSettings
from streams.log import CommitUncertain, Draft, LogError, LogRefused, TopicPartition, WriterFenced
from streams.writer import TransactionalWriter

TRANSACTION_TIMEOUT_S = TRANSACTION_TIMEOUT_MAX_MS / 1000
COMMIT_TIMEOUT_S = 20.0
BATCH_BYTES = 256 * 1024


class KafkaWriter(TransactionalWriter):
    """A transactional producer that is never reused after a doubt."""

    def __init__(self, settings: KafkaSettings, name: str, *, settles: Collection[TopicPartition] = ()) -> None:
        super().__init__(settings.add_prefix(name))
        self._settings = settings
        with translate_errors(f"starting the writer {self._name}"):
            self._producer = _start_producer(settings, self._name)
            self._settle([BrokerPartition(settings.add_prefix(at.topic), at.partition) for at in settles])

    def close(self) -> None:
        """Let go of it, without fencing another."""
        super().close()
        _close(self._producer)

    def begin(self) -> None:
        """Open a transaction."""
        self._producer.begin_transaction()

    def put(self, drafts: Sequence[Draft]) -> list[int]:
        """Write into the open transaction and wait for the offsets; those of the first partition first."""
        deadline = time.monotonic() + COMMIT_TIMEOUT_S
        place = (drafts[0].topic, drafts[0].partition)
        # A transaction that a crash has torn may become readable as far as it was written. Then the journal's records,
        # which come first, are there for all that rests on them.
        causes = [*takewhile(lambda draft: (draft.topic, draft.partition) == place, drafts)]
        offsets = _wait_for_offsets([self._send(draft) for draft in causes], deadline)
        return offsets + _wait_for_offsets([self._send(draft) for draft in drafts[len(causes) :]], deadline)

    def finish(self) -> None:
        """Commit the open transaction."""
        _end(self._producer.commit_transaction)

    def judge(self, error: Exception) -> LogError:
        """WriterFenced where another producer of this name has taken over, else CommitUncertain."""
        if is_fencing(error):
            return WriterFenced(f"another writer of the name {self._name} has taken over: {error}")
        return CommitUncertain(f"it is not known whether {self._name} has committed: {error}")

    def _settle(self, places: Collection[BrokerPartition]) -> None:
        """Abort what a writer of this name has left open in these partitions.

        A broker that crashes in a commit may call the transaction complete and leave no marker behind (Kafka 4.3.1):
        readers then wait for ever at its first record. A marker of the same producer id ends it, and whatever is added
        to a transaction gets one.
        """
        if not places:
            return
        try:
            self._producer.begin_transaction()
            _add_partitions(self._producer, places)
            _end(self._producer.abort_transaction)
        except BaseException as error:
            _close(self._producer)
            if isinstance(error, Exception) and is_fencing(error):
                raise self.judge(error) from error
            raise

    def _send(self, draft: Draft) -> Any:
        topic = self._settings.add_prefix(draft.topic)
        return self._producer.send(topic, value=draft.value, key=draft.key, partition=draft.partition)


def _start_producer(settings: KafkaSettings, name: str) -> KafkaProducer:
    """A producer that has fenced the one before it."""
    producer = KafkaProducer(
        transactional_id=name,
        transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
        delivery_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
        # The marker of a transaction may still be under way when the next one begins: ask again soon.
        retry_backoff_ms=5,
        acks="all",
        # A record that is sent again after a lost answer is written once.
        enable_idempotence=True,
        allow_auto_create_topics=False,
        max_block_ms=int(COMMIT_TIMEOUT_S * 1000),
        batch_size=BATCH_BYTES,
        max_request_size=BATCH_BYTES_MAX,
        # A commit waits for its records: to linger would only make it later.
        linger_ms=0,
        metrics_enabled=False,
        **settings.client(),
    )
    try:
        if producer.config["api_version"] < BROKER_RELEASE_MIN:
            raise LogRefused(f"the broker speaks Kafka {producer.config['api_version']}; at least {BROKER_RELEASE_MIN}")
        producer.init_transactions()
    except BaseException:
        _close(producer)
        raise
    return producer


def _wait_for_offsets(futures: Sequence[Any], deadline: float) -> list[int]:
    offsets = [int(future.get(timeout=max(0.0, deadline - time.monotonic())).offset) for future in futures]
    # A broker that already had the record, and no longer remembers where, answers without an offset.
    if min(offsets, default=0) < 0:
        raise errors.KafkaTimeoutError("the broker did not say at which offset a record stands")
    return offsets


def _add_partitions(producer: KafkaProducer, places: Collection[BrokerPartition]) -> None:
    """Add partitions to the open transaction, and wait until its coordinator knows: an abort would drop the others."""
    manager, deadline = producer._transaction_manager, time.monotonic() + COMMIT_TIMEOUT_S
    for place in places:
        manager.maybe_add_partition_to_transaction(place)
    while not all(map(manager.is_partition_added, places)):
        producer._sender.wakeup()
        if manager.has_error():
            raise manager.last_error
        if time.monotonic() > deadline:
            raise errors.KafkaTimeoutError(f"a transaction's coordinator has not added {[*places]}")
        time.sleep(0.001)


def _end(end: Callable[[], None]) -> None:
    """Commit or abort, within a limit: kafka-python itself waits without end for the answer."""
    answer: SimpleQueue[Exception | None] = SimpleQueue()

    def ask() -> None:
        try:
            end()
            answer.put(None)
        except errors.KafkaError as error:
            answer.put(error)

    threading.Thread(target=ask, name="commit", daemon=True).start()
    try:
        error = answer.get(timeout=COMMIT_TIMEOUT_S)
    except Empty:
        error = errors.KafkaTimeoutError(f"no answer within {COMMIT_TIMEOUT_S:.0f} s")
    if error is not None:
        raise error


def _close(producer: KafkaProducer) -> None:
    """Let go of a producer without waiting for what it cannot deliver any more."""
    # Its own close gives up half-way, and leaves a thread behind, when its flush does not end in time.
    producer.flush = lambda timeout=None: None
    producer.close(timeout=0.5)
