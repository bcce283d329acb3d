"""Merges the records of many partitions into one sequence, ordered by append time.

`fedlog events` reads through it: first what the log holds, then what is appended.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator

from streams.log import EventLog, Record, TopicPartition


class MergedReader:
    """Reads partitions from the offset `start`, or from the beginning, in the order of append time. Close it."""

    def __init__(self, log: EventLog, partitions: Iterable[TopicPartition], start: int | None = None) -> None:
        # The ends are fixed here, so that reading the past ends although others go on writing.
        bounds = {at: log.bounds(at) for at in partitions}
        self._ends = {at: bound.end for at, bound in bounds.items()}
        starts = {at: bound.beginning if start is None else start for at, bound in bounds.items()}
        # An empty topic has no offset to begin at but its end.
        self._reader = log.reader(
            {at: min(max(start, bounds[at].beginning), self._ends[at]) for at, start in starts.items()}
        )
        self._queues: dict[TopicPartition, deque[Record]] = {at: deque() for at in bounds}

    def read_past(self) -> Iterator[Record]:
        """What the log held when this reader was made, the oldest first."""
        unread = set(self._queues)
        while unread:
            unread = {at for at in unread if self._reader.position(at) < self._ends[at]}
            if unread:
                self._queue(self._reader.poll(0.2))
            yield from self._merge_queues(unread)

    def poll(self, timeout_s: float = 0.5) -> list[Record]:
        """What was appended since, in no order across partitions; empty after `timeout_s` without any."""
        return self._reader.poll(timeout_s)

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    def _queue(self, records: Iterable[Record]) -> None:
        for record in records:
            self._queues[TopicPartition(record.topic, record.partition)].append(record)

    def _merge_queues(self, unread: set[TopicPartition]) -> Iterator[Record]:
        """The oldest first, as long as no partition that is still being read could bring an older one."""
        heap = [(queue[0].time_ms, at) for at, queue in self._queues.items() if queue]
        heapq.heapify(heap)
        # An empty queue of an unread partition may yet receive the oldest record of all.
        while heap and all(self._queues[at] for at in unread):
            _, at = heapq.heappop(heap)
            yield self._queues[at].popleft()
            if self._queues[at]:
                heapq.heappush(heap, (self._queues[at][0].time_ms, at))
