"""The log in memory: the same laws as on Kafka, deterministic, without threads, sleeping or a clock of its own.

Every commit and every abort burns an offset for its marker, aborted records stay in the log where no reader sees them,
an open transaction holds readers back at its first record, and a new writer aborts what the one before left open.
Tests and simulations run on it. `MemoryWriter.begin`, `put` and `finish` are the steps of a commit; a subclass that
fails or stops between them, and a log whose `writer` returns it, is a crash at that point. `MemoryLog.forget` is the
crash of a broker that has not marked every partition of a transaction, and takes it for ended all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from schemas.topics import PARTITIONS_DEFAULT
from streams.log import (
    Bounds,
    CommitUncertain,
    Draft,
    LogError,
    LogUnavailable,
    OffsetLost,
    Record,
    TopicPartition,
    WriterFenced,
)
from streams.topics import TopicDescription, TopicSpec, choose_partitions, require_topics
from streams.writer import TransactionalWriter

POLL_RECORDS_MAX = 500


@dataclass(slots=True)
class _Entry:
    """One offset of a partition: a record, with the transaction that it belongs to, or a marker (no record)."""

    record: Record | None
    transaction: _Transaction | None = None

    def visible(self) -> bool:
        return self.record is not None and (self.transaction is None or self.transaction.committed is True)


@dataclass(slots=True)
class _Transaction:
    """What one writer did: the offset of its first record in each partition; `committed` is None while it is open."""

    committed: bool | None = None
    first: dict[TopicPartition, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Partition:
    """Entries from offset `beginning` on."""

    beginning: int = 0
    entries: list[_Entry] = field(default_factory=list)

    @property
    def high_watermark(self) -> int:
        return self.beginning + len(self.entries)


class MemoryWriter(TransactionalWriter):
    """The only writer of its name, until the next one is started."""

    def __init__(self, log: MemoryLog, name: str, *, epoch: int) -> None:
        super().__init__(name)
        self._log = log
        self._epoch = epoch
        self._open: _Transaction | None = None

    def begin(self) -> None:
        """Open a transaction."""
        # At every step, as a broker does: a fence may fall between two of them.
        self._check_fence()
        self._open = self._log._open(self._name)

    def put(self, drafts: Sequence[Draft]) -> list[int]:
        """Write into the open transaction; readers see nothing of it yet."""
        self._check_fence()
        return [self._log._add(draft, self._open) for draft in drafts]

    def finish(self) -> None:
        """Commit the open transaction."""
        self._check_fence()
        self._log._finish(self._name, committed=True)
        self._open = None

    def judge(self, error: Exception) -> LogError:
        """An error of the log is what it says; any other left the transaction open, as a crash would."""
        if isinstance(error, LogError):
            return error
        return CommitUncertain(f"it is not known whether {self._name} has committed: {error}")

    def _check_fence(self) -> None:
        if self._log._epochs[self._name] != self._epoch:
            raise WriterFenced(f"another writer of the name {self._name} has taken over")


class MemoryReader:
    """Reads committed records of some partitions in turn."""

    def __init__(self, log: MemoryLog, positions: Mapping[TopicPartition, int]) -> None:
        self._log = log
        self._positions = dict(positions)

    def poll(self, timeout_s: float) -> list[Record]:
        """The next records; it returns at once, whatever the timeout."""
        found: list[Record] = []
        lost: OffsetLost | None = None
        for at in list(self._positions):
            room = POLL_RECORDS_MAX - len(found)
            try:
                records, self._positions[at] = self._log._read(at, self._positions[at], records_max=room)
            except OffsetLost as error:
                lost = error
            else:
                found += records
        # What was read along with a lost position is handed out first; the position is lost at the next poll too.
        if lost is not None and not found:
            raise lost
        # The next poll begins with another partition, so that a busy one does not starve the rest.
        first = next(iter(self._positions), None)
        if first is not None:
            self._positions[first] = self._positions.pop(first)
        return found

    def position(self, at: TopicPartition) -> int:
        return self._positions[at]

    def seek(self, at: TopicPartition, offset: int) -> None:
        if at not in self._positions:
            raise KeyError(f"{at} is not read here")
        self._positions[at] = offset

    def close(self) -> None:
        self._positions.clear()


class MemoryLog:
    """The log in memory. `clock` gives the append time in ms; its values are kept as they come, and may go back."""

    def __init__(
        self,
        specs: Sequence[TopicSpec] = (),
        *,
        clock: Callable[[], int] = lambda: 0,
        partitions: int = PARTITIONS_DEFAULT,
    ) -> None:
        self._clock = clock
        self.partitions = partitions
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._found: dict[str, TopicDescription] = {}
        self._epochs: dict[str, int] = {}
        self._transactions: dict[str, _Transaction] = {}
        self._forgotten: dict[str, list[_Transaction]] = {}
        self.create_topics(specs, partitions=partitions)

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        # All partitions are looked up before the first record is added: an append that fails here has added nothing.
        for draft in drafts:
            self._partition(TopicPartition(draft.topic, draft.partition))
        return [self._add(draft, None) for draft in drafts]

    def bounds(self, at: TopicPartition) -> Bounds:
        beginning = self._partition(at).beginning
        # Records may have been deleted past the first one of an open transaction.
        return Bounds(beginning, max(beginning, self._stable_end(at)))

    def list_bounds(self, places: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        return {at: self.bounds(at) for at in places}

    def find_written_end(self, at: TopicPartition) -> int:
        return self._partition(at).high_watermark

    def reader(self, positions: Mapping[TopicPartition, int]) -> MemoryReader:
        return MemoryReader(self, positions)

    def bulk_reader(self, positions: Mapping[TopicPartition, int]) -> MemoryReader:
        return self.reader(positions)

    def writer(self, name: str, *, settles: Collection[TopicPartition] = ()) -> MemoryWriter:
        # As a broker does for a transactional id: what the writer before left open is aborted first.
        self._finish(name, committed=False)
        self._epochs[name] = self._epochs.get(name, -1) + 1
        if settles:
            empty = self._open(name)
            for at in settles:
                empty.first[at] = self.find_written_end(at)
            self._finish(name, committed=False)
        return MemoryWriter(self, name, epoch=self._epochs[name])

    def close(self) -> None:
        """Nothing is held."""

    def create_topics(
        self, specs: Sequence[TopicSpec], *, partitions: int | None = None, replication: int | None = None
    ) -> list[str]:
        """Create what is missing and return its names; `replication` has no meaning here. Raises TopicUnfit."""
        # An attribute, because actors ask for it with every answer.
        self.partitions = count = choose_partitions(specs, self._found, wanted=partitions)
        missing = [spec for spec in specs if spec.name not in self._found]
        for spec in missing:
            self._found[spec.name] = TopicDescription(count, dict(spec.config))
            for number in range(count):
                self._partitions[TopicPartition(spec.name, number)] = _Partition()
        require_topics(specs, self._found)
        return [spec.name for spec in missing]

    def first_since(self, at: TopicPartition, time_ms: int) -> int:
        partition = self._partition(at)
        records = (entry.record for entry in partition.entries if entry.record is not None)
        later = (record.offset for record in records if record.time_ms >= time_ms)
        return next(later, partition.high_watermark)

    def delete_records(self, at: TopicPartition, before_offset: int) -> None:
        """Delete every record of `at` below `before_offset`."""
        partition = self._partition(at)
        # As a broker refuses it: what is not there yet cannot be deleted.
        if before_offset > partition.high_watermark:
            raise OffsetLost(f"{at} ends at {partition.high_watermark}, before {before_offset}")
        if before_offset > partition.beginning:
            del partition.entries[: before_offset - partition.beginning]
            partition.beginning = before_offset

    def forget(self, name: str, places: Collection[TopicPartition]) -> None:
        """Leave what the open transaction of this writer has in `places` open, whatever becomes of the rest of it.

        The next transaction of the writer that touches the same partition ends it there too, in the same way.
        """
        transaction = self._transactions[name]
        for at in places:
            partition, first = self._partition(at), transaction.first.pop(at)
            left = _Transaction(first={at: first})
            for entry in partition.entries[first - partition.beginning :]:
                if entry.transaction is transaction:
                    entry.transaction = left
            self._forgotten.setdefault(name, []).append(left)

    def _partition(self, at: TopicPartition) -> _Partition:
        if at not in self._partitions:
            raise LogUnavailable(f"there is no {at}")
        return self._partitions[at]

    def _stable_end(self, at: TopicPartition) -> int:
        """The last stable offset: the first record of the oldest open transaction, else the end."""
        # A copy, because another thread of a test may end a transaction meanwhile.
        still_open = [*self._transactions.values(), *chain.from_iterable([*self._forgotten.values()])]
        firsts = [transaction.first[at] for transaction in still_open if at in transaction.first]
        return min(firsts, default=self._partition(at).high_watermark)

    def _read(self, at: TopicPartition, position: int, *, records_max: int) -> tuple[list[Record], int]:
        """The next visible records and the position after them and after every marker and aborted record passed."""
        partition = self._partition(at)
        if not partition.beginning <= position <= partition.high_watermark:
            held = f"{partition.beginning} to {partition.high_watermark}"
            raise OffsetLost(f"{at} holds {held}, not {position}")
        found: list[Record] = []
        end = self._stable_end(at)
        while position < end and len(found) < records_max:
            entry = partition.entries[position - partition.beginning]
            if entry.record is not None and entry.visible():
                found.append(entry.record)
            position += 1
        return found, position

    def _open(self, name: str) -> _Transaction:
        return self._transactions.setdefault(name, _Transaction())

    def _add(self, draft: Draft, transaction: _Transaction | None) -> int:
        at = TopicPartition(draft.topic, draft.partition)
        partition = self._partition(at)
        offset = partition.high_watermark
        record = Record(draft.topic, draft.partition, offset, self._clock(), draft.key, draft.value)
        partition.entries.append(_Entry(record, transaction))
        if transaction is not None:
            transaction.first.setdefault(at, offset)
        return offset

    def _finish(self, name: str, *, committed: bool) -> None:
        """End the open transaction of this name, if any, with one marker in every partition that it touched."""
        transaction = self._transactions.pop(name, None)
        if transaction is None:
            return
        transaction.committed = committed
        # A marker in each partition it touched, also after an abort: offsets are burnt either way.
        for at in transaction.first:
            self._partition(at).entries.append(_Entry(None))
        left = self._forgotten.pop(name, [])
        for forgotten in left:
            # One marker ends all that its writer has open in a partition.
            if forgotten.first.keys() <= transaction.first.keys():
                forgotten.committed = committed
        if still := [forgotten for forgotten in left if forgotten.committed is None]:
            self._forgotten[name] = still
