"""The log on Apache Kafka, through kafka-python. What moves much data is in `streams.kafka.bulk`.

A topic of the catalogue has the name `prefix.topic` on the broker, and so has a writer its transactional id. Readers
keep trying while no broker answers; whoever commits is told of any doubt instead, because only a new claim can end it.
Brokers below 2.8 are refused: there a fenced kafka-python producer can renew itself and fence its successor.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, errors
from kafka import TopicPartition as BrokerPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from streams.kafka.bulk import Appender, BulkReader
from streams.kafka.settings import REQUEST_TIMEOUT_S, KafkaSettings
from streams.log import (
    Bounds,
    CommitUncertain,
    Draft,
    LogError,
    LogRefused,
    LogUnavailable,
    OffsetLost,
    Reader,
    Record,
    TopicFound,
    TopicPartition,
    TopicSpec,
    WriterFenced,
    require_topics,
)
from streams.retry import Outage

BROKER_RELEASE_MIN = (2, 8)
TRANSACTION_TIMEOUT_S = 15.0
COMMIT_TIMEOUT_S = 20.0
# A reader holds about two answers of the broker: one being handed out, one on its way.
FETCH_BYTES_MAX = 16 * 2**20
FETCH_PARTITION_BYTES_MAX = 8 * 2**20

_FENCED = (errors.ProducerFencedError, errors.InvalidProducerEpochError)
_TRANSLATIONS: dict[type[LogError], tuple[type[Exception], ...]] = {
    OffsetLost: (errors.OffsetOutOfRangeError, errors.LogTruncationError),
    LogRefused: (errors.AuthorizationError, errors.SaslAuthenticationFailedError, errors.UnsupportedVersionError),
    LogUnavailable: (errors.RetriableError, errors.BrokerNotAvailableError),
}


def _placed(settings: KafkaSettings, at: TopicPartition) -> BrokerPartition:
    return BrokerPartition(settings.named(at.topic), at.partition)


class KafkaWriter:
    """A transactional producer that is never reused after a doubt."""

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._settings = settings
        self._name = settings.named(name)
        self._dead: LogError | None = None
        with _translated(f"starting the writer {self._name}"):
            self._producer = _transactional(settings, self._name)

    def commit(self, drafts: Sequence[Draft]) -> list[int]:
        if self._dead is not None:
            raise type(self._dead)(f"the writer {self._name} is dead since: {self._dead}")
        if not drafts:
            return []
        # Set first: whatever interrupts this call, the writer stays dead unless the broker has answered.
        self._dead = CommitUncertain(f"a commit of {self._name} was interrupted")
        try:
            self.begin()
            offsets = self.put(drafts)
            self.finish()
        except Exception as error:
            self._dead = self._verdict(error)
            raise self._dead from error
        self._dead = None
        return offsets

    def close(self) -> None:
        self._dead = self._dead or CommitUncertain("it is closed")
        _close(self._producer)

    def begin(self) -> None:
        """Open a transaction: the first step of a commit."""
        self._producer.begin_transaction()

    def put(self, drafts: Sequence[Draft]) -> list[int]:
        """Write into the open transaction; readers see nothing of it yet."""
        sent = [_send(self._producer, self._settings.named(draft.topic), draft=draft) for draft in drafts]
        return _offsets(sent, time.monotonic() + COMMIT_TIMEOUT_S)

    def finish(self) -> None:
        _commit(self._producer, COMMIT_TIMEOUT_S)

    def _verdict(self, error: Exception) -> LogError:
        causes = [error, *error.args, error.__cause__]
        if any(isinstance(cause, _FENCED) for cause in causes):
            return WriterFenced(f"another writer of the name {self._name} has taken over: {error}")
        return CommitUncertain(f"it is not known whether {self._name} has committed: {error}")


class KafkaReader:
    """A consumer without a group; it is made at the first poll that finds a broker."""

    def __init__(self, settings: KafkaSettings, positions: Mapping[TopicPartition, int], *, outage: Outage) -> None:
        self._settings, self._outage = settings, outage
        self._positions = dict(positions)
        self._names = {_placed(settings, at): at for at in positions}
        self._consumer: KafkaConsumer | None = None

    def poll(self, timeout_s: float) -> list[Record]:
        try:
            with _translated("reading"):
                consumer = self._consumer or self._connect(timeout_s)
                found = consumer.poll(timeout_ms=int(timeout_s * 1000))
        except LogUnavailable as error:
            self._outage.missed(str(error))
            return []
        if found:
            self._outage.answered()
        return [_record(self._names[name], item) for name, items in found.items() for item in items]

    def position(self, at: TopicPartition) -> int:
        if self._consumer is None:
            return self._positions[at]
        with _translated(f"reading {at}"):
            return int(self._consumer.position(_placed(self._settings, at), timeout_ms=0))

    def seek(self, at: TopicPartition, offset: int) -> None:
        self._positions[at] = offset
        if self._consumer is not None:
            self._consumer.seek(_placed(self._settings, at), offset)

    def close(self) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def _connect(self, timeout_s: float) -> KafkaConsumer:
        connection = self._settings.client()
        connection["bootstrap_timeout_ms"] = max(1000, int(timeout_s * 1000))
        consumer = KafkaConsumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            fetch_max_bytes=FETCH_BYTES_MAX,
            max_partition_fetch_bytes=FETCH_PARTITION_BYTES_MAX,
            metrics_enabled=False,
            **connection,
        )
        consumer.assign(list(self._names))
        for name, at in self._names.items():
            consumer.seek(name, self._positions[at])
        self._consumer = consumer
        return consumer


class KafkaLog:
    """The log on a Kafka cluster. Its methods may be called from any thread; a reader or writer from one at a time."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.outage = Outage(settings.bootstrap_servers)
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._admin_client: KafkaAdminClient | None = None
        self._appender: Appender | None = None

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Append; see `streams.log.EventLog`.

        The appender is idempotent: what it sends again after a lost answer is written once. When it has given up it is
        thrown away, and with it that memory: a record of it can still arrive, once, later.
        """
        appender = self._appending()
        try:
            offsets = appender.append(drafts)
        except LogError as error:
            self._forget(appender)
            if isinstance(error, LogUnavailable):
                self.outage.missed(str(error))
            raise
        self.outage.answered()
        return offsets

    def bounds(self, at: TopicPartition) -> Bounds:
        name = _placed(self._settings, at)
        # The end for readers of committed records is the last stable offset. One question at a time: the admin client
        # of kafka-python fails with "node paused" when several threads ask at once.
        with _translated(f"asking for the bounds of {at}", self.outage), self._asking:
            ask = self._admin().list_partition_offsets
            end = ask({name: OffsetSpec.LATEST}, isolation_level="read_committed")[name].offset
            beginning = ask({name: OffsetSpec.EARLIEST})[name].offset
        return Bounds(beginning, max(beginning, end))

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        name = _placed(self._settings, at)
        with _translated(f"looking up a time in {at}", self.outage), self._asking:
            found = self._admin().list_partition_offsets({name: time_ms})[name].offset
        return int(found) if found >= 0 else self.bounds(at).end

    def reader(self, positions: Mapping[TopicPartition, int]) -> KafkaReader:
        return KafkaReader(self._settings, positions, outage=self.outage)

    def bulk_reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        return BulkReader(self._settings, positions)

    def writer(self, name: str) -> KafkaWriter:
        return KafkaWriter(self._settings, name)

    def close(self) -> None:
        with self._lock:
            appender, self._appender = self._appender, None
            admin, self._admin_client = self._admin_client, None
        del appender  # it ends here, and holds nobody up who wants the lock
        if admin is not None:
            admin.close()

    def wait_ready(self, timeout_s: float) -> int:
        """Wait until a broker and a controller answer; the number of brokers. Raises LogUnavailable."""
        give_up = time.monotonic() + timeout_s
        while True:
            with contextlib.suppress(LogUnavailable), _translated("looking for the cluster"):
                cluster = self._admin().describe_cluster()
                if cluster["brokers"] and cluster["controller_id"] >= 0:
                    return len(cluster["brokers"])
            if time.monotonic() > give_up:
                raise LogUnavailable(f"no Kafka answers at {self._settings.bootstrap_servers} within {timeout_s:.0f} s")
            time.sleep(0.1)

    def create_topics(self, specs: Sequence[TopicSpec], *, replication: int | None = None) -> list[str]:
        """Create what is missing and return its names; `replication`: 3 on three brokers, else 1. Raises TopicUnfit."""
        copies = replication or (3 if self.wait_ready(REQUEST_TIMEOUT_S) >= 3 else 1)
        known = self.describe_topics([spec.name for spec in specs])
        missing = [spec for spec in specs if spec.name not in known]
        if missing:
            with _translated("creating topics", self.outage):
                self._create(missing, copies)
        self.check_topics(specs)
        return [spec.name for spec in missing]

    def check_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Raise TopicUnfit, which names every topic that is missing or has a setting that breaks a law."""
        require_topics(specs, self.describe_topics([spec.name for spec in specs]), prefix=self._settings.topic_prefix)

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicFound]:
        """Those of the topics that exist."""
        placed = {self._settings.named(name): name for name in names}
        with _translated("describing topics", self.outage):
            rows = [row for row in self._admin().describe_topics(list(placed)) if not row["error_code"]]
            asked = [ConfigResource(ConfigResourceType.TOPIC, row["name"]) for row in rows]
            found = self._admin().describe_configs(asked, config_filter="all")["topic"] if asked else {}
        settings = {topic: {key: row["value"] for key, row in of.items()} for topic, of in found.items()}
        return {placed[row["name"]]: TopicFound(len(row["partitions"]), settings[row["name"]]) for row in rows}

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        """Delete every record of `at` below `before_offset`; the broker frees the space segment by segment."""
        with _translated(f"deleting records of {at}", self.outage):
            self._admin().delete_records({_placed(self._settings, at): before_offset})

    def _create(self, specs: Sequence[TopicSpec], copies: int) -> None:
        rows = {
            self._settings.named(spec.name): {
                "num_partitions": spec.partitions,
                "replication_factor": copies,
                "configs": {"min.insync.replicas": "2" if copies >= 3 else "1", **spec.config},
            }
            for spec in specs
        }
        for row in self._admin().create_topics(rows, raise_errors=False)["topics"]:
            # Another process may have been quicker: that is as good.
            if row["error_code"] not in (0, errors.TopicAlreadyExistsError.errno):
                raise errors.for_code(row["error_code"])(f"{row['name']}: {row.get('error_message')}")
        self._admin().wait_for_topics(list(rows))

    def _admin(self) -> KafkaAdminClient:
        with self._lock:
            if self._admin_client is None:
                self._admin_client = KafkaAdminClient(**self._settings.client())
            return self._admin_client

    def _appending(self) -> Appender:
        with self._lock:
            if self._appender is None:
                self._appender = Appender(self._settings)
            return self._appender

    def _forget(self, appender: Appender) -> None:
        """Who is appending with it ends alone; the next append has another."""
        with self._lock:
            self._appender = None if self._appender is appender else self._appender


def _transactional(settings: KafkaSettings, name: str) -> KafkaProducer:
    """A producer that has fenced the one before it."""
    producer = KafkaProducer(
        transactional_id=name,
        transaction_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
        delivery_timeout_ms=int(TRANSACTION_TIMEOUT_S * 1000),
        # The marker of a transaction may still be under way when the next one begins: ask again soon.
        retry_backoff_ms=5,
        acks="all",
        enable_idempotence=True,
        allow_auto_create_topics=False,
        max_block_ms=int(COMMIT_TIMEOUT_S * 1000),
        batch_size=256 * 1024,
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


def _record(at: TopicPartition, item: Any) -> Record:
    return Record(at.topic, at.partition, item.offset, item.timestamp, item.key, item.value)


def _send(producer: KafkaProducer, topic: str, *, draft: Draft) -> Any:
    return producer.send(topic, value=draft.value, key=draft.key, partition=draft.partition)


def _offsets(sent: Sequence[Any], deadline: float) -> list[int]:
    offsets = [int(future.get(timeout=max(0.0, deadline - time.monotonic())).offset) for future in sent]
    # An answer to a record that the broker had already and no longer remembers comes without its offset.
    if min(offsets, default=0) < 0:
        raise errors.KafkaTimeoutError("the broker did not say at which offset a record stands")
    return offsets


def _commit(producer: KafkaProducer, timeout_s: float) -> None:
    """Commit, or raise queue.Empty after the timeout: kafka-python itself waits without end for the answer."""
    answer: SimpleQueue[Exception | None] = SimpleQueue()

    def ask() -> None:
        try:
            producer.commit_transaction()
            answer.put(None)
        except errors.KafkaError as error:
            answer.put(error)

    threading.Thread(target=ask, name="commit", daemon=True).start()
    error = answer.get(timeout=timeout_s)
    if error is not None:
        raise error


def _close(producer: KafkaProducer) -> None:
    """Let go of a producer without waiting for what it cannot deliver any more."""
    # Its own close gives up half-way, and leaves a thread behind, when its flush does not end in time.
    producer.flush = lambda timeout=None: None
    producer.close(timeout=0.5)


@contextlib.contextmanager
def _translated(doing: str, outage: Outage | None = None) -> Iterator[None]:
    """Turn kafka-python's errors into the log's; `outage` hears whether there was an answer."""
    try:
        yield
    except errors.KafkaError as error:
        kind = next((kind for kind, causes in _TRANSLATIONS.items() if isinstance(error, causes)), LogError)
        if outage is not None and kind is LogUnavailable:
            outage.missed(f"{doing}: {error}")
        raise kind(f"{doing}: {error}") from error
    if outage is not None:
        outage.answered()
