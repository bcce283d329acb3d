"""Feeds projections from a log: up to its present end, and then with each record that is appended.

The console, the evaluator and the demo follow through it; a table in a database or a page will do the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from ops.history.projections import Projection
from streams.log import POLL_S_MAX, POLL_S_MIN, EventLog, Reader, Record, TopicPartition

FAR = 5_000


class Follower:
    """Reads the topics of its projections through one reader. Close it, or use it as a context.

    Each projection gets the records of its own topics from its own position on; without `partitions` those of all.
    """

    def __init__(
        self,
        log: EventLog,
        *projections: Projection,
        partitions: Iterable[int] | None = None,
        reads_ahead: bool = False,
    ) -> None:
        """`reads_ahead`: more than `FAR` new records are read by a reader that is quick, and slow to start."""
        self._projections = projections
        # A dict keeps the order of the topics and drops those that two projections share.
        topics = dict.fromkeys(topic for projection in projections for topic in projection.topics)
        # Asked of the log that is followed: an export may come from a cluster with another number.
        numbers = list(range(log.partitions) if partitions is None else partitions)
        places = [TopicPartition(topic, number) for topic in topics for number in numbers]
        bounds = log.list_bounds(places)
        self._ends = {at: bound.end for at, bound in bounds.items()}
        # Retention may have taken the first records of a plain topic, so no start lies below what the log holds.
        self._starts = {at: max(bound.beginning, self._find_start(at)) for at, bound in bounds.items()}
        far = sum(max(0, self._ends[at] - start) for at, start in self._starts.items()) > FAR
        self._log, self._opens = log, log.bulk_reader if reads_ahead and far else log.reader
        self._reader: Reader | None = None

    def poll(self, timeout_s: float = 0.5) -> list[Record]:
        """Apply what is new and return it; empty after `timeout_s` without any."""
        # Not before: where nothing is new nobody has to connect.
        if self._reader is None:
            self._reader = self._opens(self._starts)
        records = self._reader.poll(timeout_s)
        for record in records:
            self._apply(record)
        return records

    @property
    def is_behind(self) -> bool:
        """Whether it has not read yet to where the topics ended when it was made."""
        # The position may pass the end: a transaction's marker follows every record of a journal.
        return any(self._find_position(at) < end for at, end in self._ends.items())

    @property
    def positions(self) -> dict[TopicPartition, int]:
        """How far it has read, behind markers, which are no records."""
        return {at: self._find_position(at) for at in self._starts}

    def catch_up(self) -> None:
        """Read to where the topics ended when this follower was made."""
        wait_s = POLL_S_MIN
        while self.is_behind:
            # As in `scan`: behind the last record is a marker, of which nothing is said.
            wait_s = POLL_S_MIN if self.poll(wait_s) else min(2 * wait_s, POLL_S_MAX)

    def close(self) -> None:
        """Release the reader."""
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find_position(self, at: TopicPartition) -> int:
        return self._starts[at] if self._reader is None else self._reader.position(at)

    def _find_start(self, at: TopicPartition) -> int:
        """The lowest position of the projections that read this partition."""
        return min(each.positions.get(at, 0) for each in self._projections if at.topic in each.topics)

    def _apply(self, record: Record) -> None:
        for projection in self._projections:
            # Projections may stand at different offsets: one that is ahead has these records already.
            if record.topic in projection.topics and record.offset >= projection.positions.get(record.at, 0):
                projection.apply(record)
