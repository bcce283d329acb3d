"""The log on Apache Kafka: what hosts, devices and the console open.

A topic of the catalogue has the name `prefix.topic` on the broker, and so has a writer its transactional id. Readers
keep trying while no broker answers; a commit reports any doubt instead, because only a new claim can end it. Plain
appends and bulk reads go through librdkafka, the rest through kafka-python.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from schemas.topics import CATALOGUE
from streams.kafka.admin import KafkaAdmin
from streams.kafka.reader import KafkaReader
from streams.kafka.settings import KafkaSettings
from streams.kafka.writer import KafkaWriter
from streams.log import Bounds, Draft, LogError, LogUnavailable, Reader, TopicPartition
from streams.retry import Outage
from streams.topics import TopicDescription, TopicSpec

if TYPE_CHECKING:
    from streams.kafka.appender import Appender


class KafkaLog:
    """The log on a Kafka cluster. Its methods may be called from any thread; a reader or writer from one at a time.

    `will_append`: its first plain append comes soon, and must not wait for a connection.
    """

    def __init__(self, settings: KafkaSettings, *, will_append: bool = False) -> None:
        self._settings = settings
        self.outage = Outage(settings.bootstrap_servers)
        self._admin = KafkaAdmin(settings, outage=self.outage)
        # Guards the appender alone; reading and asking take no lock of this class.
        self._lock = threading.Lock()
        # librdkafka asks for a producer's id every half second until it has one: a first append would wait that out.
        self._appender = self._make_appender() if will_append else None

    @cached_property
    def partitions(self) -> int:
        """How many partitions every topic has; see `streams.log.EventLog`."""
        # Asked once: with another number a running process would look for its tasks in other places.
        return self._admin.count_partitions([topic.name for topic in CATALOGUE])

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Append; see `streams.log.EventLog`.

        The appender is idempotent: what it sends again after a lost answer is written once. When it has given up it is
        thrown away, and with it that memory: a record of it can still arrive, once, later.
        """
        appender = self._current_appender()
        try:
            offsets = appender.append(drafts)
        except LogError as error:
            # Also what it has not delivered goes with it; the caller is told that this may be in the log or not.
            self._drop_appender(appender)
            if isinstance(error, LogUnavailable):
                self.outage.note_silence(str(error))
            raise
        self.outage.note_answer()
        return offsets

    def bounds(self, at: TopicPartition) -> Bounds:
        """What a reader of committed records can see of `at` now. Raises LogUnavailable."""
        return self._admin.list_bounds([at])[at]

    def list_bounds(self, places: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """The same of many, in two requests a broker. Raises LogUnavailable."""
        return self._admin.list_bounds(places)

    def find_written_end(self, at: TopicPartition) -> int:
        """The offset behind all that was written to `at`; see `streams.log.EventLog`."""
        return self._admin.find_written_end(at)

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        """The first offset of `at` that was appended at `time_ms` or later; its end when there is none."""
        return self._admin.first_since(at, time_ms)

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        """Delete every record of `at` below `before_offset`; the broker frees the space segment by segment."""
        self._admin.delete_records(at, before_offset)

    def reader(self, positions: Mapping[TopicPartition, int]) -> KafkaReader:
        """A reader that starts at these offsets."""
        return KafkaReader(self._settings, positions, outage=self.outage)

    def bulk_reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """The same for much data in order."""
        from streams.kafka.bulk_reader import BulkReader

        return BulkReader(self._settings, positions)

    def writer(self, name: str, *, settles: Collection[TopicPartition] = ()) -> KafkaWriter:
        """Start the writer `name`, and fence the one before it; see `streams.log.EventLog`."""
        return KafkaWriter(self._settings, name, settles=settles)

    def wait_ready(self, timeout_s: float) -> int:
        """Wait until a broker and a controller answer; the number of brokers. Raises LogUnavailable."""
        return self._admin.wait_ready(timeout_s)

    def create_topics(
        self, specs: Sequence[TopicSpec], *, partitions: int | None = None, replication: int | None = None
    ) -> list[str]:
        """Create what is missing and return its names.

        `partitions`: as many as the topics that exist, else 8; `replication`: 3 on three brokers, else 1. Raises
        TopicUnfit.
        """
        return self._admin.create_topics(specs, partitions=partitions, replication=replication)

    def check_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Raise TopicUnfit, which names each missing topic, and each wrong setting of a topic or a broker."""
        self._admin.check_topics(specs)

    def describe_topics(self, names: Sequence[str]) -> dict[str, TopicDescription]:
        """Those of the topics that exist."""
        return self._admin.describe_topics(names)

    def list_hidden(self, names: Sequence[str]) -> list[str]:
        """Those of the topics that the brokers keep from this client."""
        return self._admin.list_hidden(names)

    def close(self) -> None:
        """Release every connection."""
        with self._lock:
            appender, self._appender = self._appender, None
        # It ends outside the lock, so that no other thread waits for that.
        del appender
        self._admin.close()

    def _current_appender(self) -> Appender:
        with self._lock:
            if self._appender is None:
                self._appender = self._make_appender()
            return self._appender

    def _make_appender(self) -> Appender:
        # librdkafka takes as long to import as a question takes that appends nothing.
        from streams.kafka.appender import Appender

        return Appender(self._settings)

    def _drop_appender(self, appender: Appender) -> None:
        """The next append has another; a thread that is still appending with this one ends alone."""
        with self._lock:
            self._appender = None if self._appender is appender else self._appender
