"""The log as fedlog needs it: append, read, and one fenced writer for each journal partition.

Two implementations obey these laws and pass one contract suite: `streams.memory` and `streams.kafka.log`.

* Offsets only grow; every commit and every abort of a transaction burns one offset for its marker.
* Readers see committed records only, and nothing at or past the first record of an open transaction (the LSO).
* What was committed becomes visible soon after `commit` has returned, not always at once: the broker writes the marker
  behind its answer. A reader that must see it reads until its position has passed the offset that `commit` returned.
* The time of a record is the broker's append time, never the producer's.
* `writer(name)` fences: an older writer of the same name fails with `WriterFenced` from its next commit on, and what it
  had not committed is aborted.

Everything here blocks; an event loop calls it from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import NamedTuple, Protocol

from schemas.errors import EXIT_LOST, EXIT_UNAVAILABLE, FedlogError
from schemas.topics import BATCH_BYTES_MAX

# The rest of a batch is room for its header.
KAFKA_RECORD_BYTES_MAX = BATCH_BYTES_MAX - 20_000
# Twice as long as a transaction may stay open: whatever holds a reader back for so long will not end by itself.
STANDSTILL_S = 30.0
ASK_EVERY_S = 5.0
POLL_S_MIN, POLL_S_MAX = 0.01, 0.2


class LogError(FedlogError):
    """The log could not do what was asked.

    LogError
     ├── WriterFenced       another writer of the same name has taken over; stop
     ├── CommitUncertain    the outcome of a commit is unknown; stop, the next claim finds out
     ├── LogUnavailable     no broker answers; wait and try again
     │    └── ReaderStalled  a reader stands still although the log goes on; begin again with another
     ├── LogRefused         the broker says no: credentials, rights, or its release is too old; waiting does not help
     ├── TopicUnfit         a topic, or the cluster, is not set up as fedlog needs it
     └── OffsetLost         the log does not hold the offset that was asked for
    """

    code = "log_failed"


class WriterFenced(LogError):
    """Another writer of the same name has taken over this journal partition.

    What was in flight may still have been committed just before: the answer can get lost. The next claim finds out.
    """

    code = "writer_fenced"


class CommitUncertain(LogError):
    """It is not known whether the transaction was committed."""

    code = "commit_uncertain"


class LogUnavailable(LogError):
    """No broker answers.

    After an append this says nothing about the records: some may be in the log already, so that appending them again
    can write them twice. After anything else nothing has changed.
    """

    exit_code = EXIT_UNAVAILABLE
    code = "log_unavailable"


class ReaderStalled(LogUnavailable):
    """A reader gets nothing of what its broker has for it; another one, with connections of its own, may."""

    code = "reader_stalled"


class ReadersHeldBack(LogUnavailable):
    """Readers have not got past the same offset for longer than a transaction may last: nothing ends the one there."""

    code = "readers_held_back"


class LogRefused(LogError):
    """The broker refuses: credentials, rights, or its release is too old."""

    code = "log_refused"


class TopicUnfit(LogError):
    """A topic, or the cluster, is not set up as fedlog needs it."""

    code = "topic_unfit"


class OffsetLost(LogError):
    """The log does not hold the offset that was asked for: deleted below the beginning, or beyond the end."""

    exit_code = EXIT_LOST
    code = "offset_lost"


class TopicPartition(NamedTuple):
    """One partition of one topic; `topic` is the name in the catalogue, without the deployment's prefix."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


class Place(NamedTuple):
    """One offset of one partition; its text is the only form in which a person reads where something stands."""

    at: TopicPartition
    offset: int

    def __str__(self) -> str:
        return f"{self.at}@{self.offset}"


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in the log; `time_ms` is its append time.

    One of many messages in a record is shown as a record too; `message` is its number there (`streams.packing`).
    """

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    message: int = 0

    @property
    def at(self) -> TopicPartition:
        """Its partition."""
        return TopicPartition(self.topic, self.partition)

    @property
    def place(self) -> Place:
        """Its partition and offset."""
        return Place(self.at, self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One record to be appended; a value of None is a tombstone, which needs a key.

    Raises ValueError for a record that no broker would take, before anything is sent.
    """

    topic: str
    partition: int
    value: bytes | None
    key: bytes | None = None

    def __post_init__(self) -> None:
        if self.value is None and self.key is None:
            raise ValueError(f"a tombstone for {TopicPartition(self.topic, self.partition)} without a key")
        size = len(self.value or b"") + len(self.key or b"")
        # Here and not at the broker, which would refuse the whole batch that it travels in.
        if size > KAFKA_RECORD_BYTES_MAX:
            at = TopicPartition(self.topic, self.partition)
            raise ValueError(f"a record of {size:,} bytes for {at}; at most {KAFKA_RECORD_BYTES_MAX:,}")


class Bounds(NamedTuple):
    """`beginning` is the first offset still held; `end` the first that a reader cannot see yet."""

    beginning: int
    end: int


# The three protocols name what callers need and no more: a log for tests or files is one class that has it.
class Writer(Protocol):
    """The only writer of one journal partition, until the next one of its name is started."""

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """Of each partition that it has written to, the offset behind its last committed record there."""
        ...

    def commit(self, drafts: Sequence[Draft]) -> list[int]:
        """Append all of `drafts` or none, in one transaction; return their offsets. Nothing to append: no transaction.

        Raises WriterFenced, or CommitUncertain when the outcome is unknown: after either the writer is dead, and every
        further commit raises WriterFenced or CommitUncertain again.
        """
        ...

    def close(self) -> None:
        """Let go of it, without fencing another."""
        ...


class Reader(Protocol):
    """Reads committed records of some partitions, each from its own position on."""

    def poll(self, timeout_s: float) -> list[Record]:
        """The next records, in the order of the log within each partition; empty after `timeout_s` without any.

        It is empty too while no broker answers: a reader waits for it. Raises OffsetLost when a position lies outside
        what the log holds, below its beginning or beyond its end.
        """
        ...

    def position(self, at: TopicPartition) -> int:
        """The offset after the last record or marker passed."""
        ...

    def seek(self, at: TopicPartition, offset: int) -> None:
        """Go on reading `at` from `offset`."""
        ...

    def close(self) -> None:
        """Release its connections."""
        ...


class EventLog(Protocol):
    """A log of topics and partitions."""

    @property
    def partitions(self) -> int:
        """How many partitions every topic has: fixed when they were created. Raises LogUnavailable, TopicUnfit."""
        ...

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        """Append plain records (no transaction), each durable when this returns; return their offsets in order.

        Records of one partition keep their order. Raises LogUnavailable: see there what is known then.
        """
        ...

    def bounds(self, at: TopicPartition) -> Bounds:
        """What a reader of committed records can see of `at` now. Raises LogUnavailable."""
        ...

    def list_bounds(self, places: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """The same of many, for what asking for one costs. Raises LogUnavailable."""
        ...

    def find_written_end(self, at: TopicPartition) -> int:
        """The offset behind all that was written to `at`, also behind what an open transaction still hides.

        Raises LogUnavailable.
        """
        ...

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        """The first offset of `at` that was appended at `time_ms` or later; its end when there is none."""
        ...

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        """Delete every record of `at` below `before_offset`."""
        ...

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """A reader that starts at these offsets."""
        ...

    def bulk_reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """The same for much data in order: it may read further ahead, and is slow to seek."""
        ...

    def writer(self, name: str, *, settles: Collection[TopicPartition] = ()) -> Writer:
        """Start the writer `name`, and fence the one before it. Raises LogUnavailable: try again.

        What a writer of this name has left open in the partitions `settles`, because a broker forgot to end it, has
        ended as aborted when this returns.
        """
        ...

    def close(self) -> None:
        """Release every connection."""
        ...


@dataclass(slots=True)
class Standstill:
    """Watches a reader that is waited for, until its position has reached `end`; no such wait may be silent.

    Where the log itself cannot be read on, that is logged, or raised for whoever `gives_up`.
    """

    log: EventLog
    at: TopicPartition
    end: int
    gives_up: bool = False
    _position: int = field(default=-1, init=False)
    _since_s: float = field(default=0.0, init=False)
    _asks_s: float = field(default=0.0, init=False)  # when the log is asked next how far it can be read

    def check(self, position: int) -> None:
        """Call it before each poll. Raises ReaderStalled, ReadersHeldBack."""
        now_s = time.monotonic()
        if position != self._position:
            self._position, self._since_s, self._asks_s = position, now_s, now_s + ASK_EVERY_S
        if now_s < self._asks_s:
            return
        self._asks_s = now_s + ASK_EVERY_S
        try:
            readable, written = self.log.bounds(self.at).end, self.log.find_written_end(self.at)
        except LogUnavailable:
            # A broker's silence is no fault of the reader's: its time begins when there is something to read.
            self._since_s = now_s
            return
        if now_s - self._since_s >= STANDSTILL_S:
            self._since_s = now_s
            self._judge(readable, written)

    def _judge(self, readable: int, written: int) -> None:
        if self._position < readable:
            raise ReaderStalled(f"reading {self.at} stalled at {self._position}, and {readable} can be read")
        if self.gives_up:
            raise ReadersHeldBack(f"{self.at} cannot be read past {readable}, and {self.end} is awaited")
        # Either a transaction is open there, or the log has lost what was awaited.
        place = self.at._asdict()
        # It takes a tenth of a second to import, which a command that only prints its help need not wait for.
        logger = import_module("structlog").get_logger(__name__)
        logger.warning("readers_held_back", **place, offset=readable, written=written, awaited=self.end)


def scan(
    log: EventLog, at: TopicPartition, *, start: int | None = None, end: int | None = None, gives_up: bool = False
) -> Iterator[Record]:
    """Every committed record of `at` from `start` (default: the beginning) up to, not including, `end`.

    Without `end` it is where the log ended at the first step; with it the log is awaited until it can be read that far,
    without a limit unless it `gives_up`. Raises ReaderStalled, and ReadersHeldBack where it gives up.
    """
    if start is None or end is None:
        bounds = log.bounds(at)
        start = bounds.beginning if start is None else start
        end = bounds.end if end is None else end
    # A reader costs a connection: none is made where there is nothing to read.
    if start >= end:
        return
    # Markers have offsets and no records, so the position tells when the end is reached, and not the last record.
    reader, standstill, wait_s = log.reader({at: start}), Standstill(log, at, end, gives_up), POLL_S_MIN
    try:
        while (position := reader.position(at)) < end:
            standstill.check(position)
            records = reader.poll(wait_s)
            yield from (record for record in records if record.offset < end)
            # What comes last is a transaction's marker, of which a reader says nothing: a long poll would wait it out.
            wait_s = POLL_S_MIN if records else min(2 * wait_s, POLL_S_MAX)
    finally:
        reader.close()
