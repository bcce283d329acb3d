"""The inputs of one actor: what is decided of each, what a record holds, and whether one is missing before it (law 2).

Two kinds of topic need two rules. Offsets of a plain topic are dense but for rare holes. Offsets of a journal have a
marker after every transaction, so holes are judged by the chain. In both cases only the log itself can tell a hole from
a missing record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from schemas.certificates import Trust
from schemas.errors import FedlogError
from schemas.events import JournalEvent
from schemas.journal import Batch, ChainBroken, JournalPosition, Position
from streams.holes import Holes
from streams.journals import JournalReader
from streams.log import EventLog, Record, TopicPartition
from streams.packing import PACKED_BEGINS, unpack

# A position that only moved is written after this many inputs or this much log time, so that a restart need not read
# all of them again.
WRITTEN_AFTER_INPUTS = 10_000
WRITTEN_AFTER_MS = 3_600_000


class Gap(FedlogError):
    """The log holds a record before this one that was not delivered; the host seeks every input to its position."""

    code = "input_gap"

    def __init__(self, topic: str, *, expected: int, found: int) -> None:
        super().__init__(f"{topic}: offset {found} came where {expected} was expected")
        self.topic, self.expected, self.found = topic, expected, found


class _Before(NamedTuple):
    """What one call of `read` changes, as it was before."""

    position: Position
    journal: JournalPosition | None
    decided_ms: dict[str, int]


class Inputs:
    """Reads records in order and keeps the position after them. For one actor's thread."""

    def __init__(self, log: EventLog, journals: Iterable[TopicPartition], *, trust: Trust) -> None:
        self.position = Position()
        self.time_ms = 0
        self.decided_ms: dict[str, int] = {}
        self._holes = Holes(log)
        self.journals = {at.topic: JournalReader(at, trust=trust) for at in journals}
        self._before = _Before(self.position, None, self.decided_ms)
        self.unwritten = 0
        self.written_ms = 0

    def reset(self) -> None:
        """Go back before the first input."""
        self.position, self.time_ms, self.written_ms = Position(), 0, 0
        for journal in self.journals.values():
            journal.position = JournalPosition()

    def go_to(self, batch: Batch) -> None:
        """Take the position and the time that a batch of our own journal left behind."""
        self.position = batch.position
        for topic, at in batch.position.journals.items():
            self.journals[topic].position = at
        self.time_ms = self.written_ms = batch.time_ms

    def skip(self, topic: str, offset: int) -> None:
        """Accept that the log holds nothing of `topic` before `offset`."""
        self._move(topic, offset)

    def read(self, record: Record) -> Sequence[Record | JournalEvent]:
        """What a record gives to decide, and step behind it: a plain record's messages, or all events of a journal's.

        A claim or a zombie's batch gives nothing. Raises Gap, ChainBroken, OffsetLost and LogUnavailable.
        """
        journal = self.journals.get(record.topic)
        self._before = _Before(self.position, journal.position if journal else None, self.decided_ms)
        expected = self.position.offsets.get(record.topic, 0)
        if journal is not None:
            given: Sequence[Record | JournalEvent] = self._follow(journal, record, expected=expected)
        else:
            if record.offset > expected:
                self._require_next(record, expected=expected)
            # Nearly every record is one message, and needs nothing taken apart.
            given = unpack(record) if record.value and record.value.startswith(PACKED_BEGINS) else (record,)
        self._move(record.topic, record.offset + 1)
        # Topics may have leaders with clocks of their own, and log time must never run backwards (law 10).
        self.time_ms = max(self.time_ms, record.time_ms)
        decided_ms = max(record.time_ms, self.decided_ms.get(record.topic, 0))
        self.decided_ms = {**self.decided_ms, record.topic: decided_ms}
        self.unwritten += 1 if journal is not None else len(given)
        return given

    def unread(self, record: Record) -> None:
        """Step back before the record that was read last: it could not be decided, and will come again."""
        self.position, at, self.decided_ms = self._before
        if at is not None:
            self.journals[record.topic].position = at

    def close(self) -> None:
        """Release what holes were compared with."""
        self._holes.close()

    def is_write_due(self) -> bool:
        """Whether a position that only moved should be written."""
        is_late = self.unwritten > 0 and self.time_ms - self.written_ms >= WRITTEN_AFTER_MS
        return is_late or self.unwritten >= WRITTEN_AFTER_INPUTS

    def _move(self, topic: str, offset: int) -> None:
        offsets, journals = self.position.offsets, self.position.journals
        if topic in offsets:
            # A new dict each time: the old one may wait for its commit, or be what `unread` goes back to.
            offsets = {**offsets, topic: offset}
        else:
            # Sorted, so that the order in which topics were first met leaves no trace in the journal.
            offsets = dict(sorted({**offsets, topic: offset}.items()))
        if topic in self.journals:
            positions = {name: journal.position for name, journal in self.journals.items()}
            journals = {name: at for name, at in positions.items() if at.claim >= 0}
        self.position = Position(offsets=offsets, journals=journals)

    def _follow(self, journal: JournalReader, record: Record, *, expected: int) -> list[JournalEvent]:
        before = journal.position
        if record.offset > expected + 1:
            # More than a marker is missing. It may be a claim, and without that a zombie's batch follows the chain.
            self._require_next(record, expected=expected)
        try:
            batch = journal.follow(record)
        except ChainBroken:
            self._require_next(record, expected=expected)
            raise
        if batch is None and journal.position != before:
            # A claim carries nothing that ties it to the record before it, so the log itself is asked.
            claimed, journal.position = journal.position, before
            self._require_next(record, expected=expected)
            journal.position = claimed
        return [] if batch is None else [event for decision in batch.decisions for event in decision.events]

    def _require_next(self, record: Record, *, expected: int) -> None:
        """Raise Gap where the log holds a record between the position and this one; else the hole is real."""
        if record.offset <= expected:
            return
        at = TopicPartition(record.topic, record.partition)
        # Markers and aborted transactions leave holes too: only a record that is there can have been missed.
        if self._holes.find_first(at, expected, end=record.offset) < record.offset:
            raise Gap(record.topic, expected=expected, found=record.offset)
