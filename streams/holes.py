"""Whether offsets that were not delivered hold anything: markers and aborted records leave holes, and so does a loss.

Only the log can tell. Anybody who may write to a topic can make a hole with every transaction, so that asking has to
cost less than that: the reader of a partition is kept, and what it has read beyond a hole answers for the next ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from streams.log import EventLog, LogError, Reader, Standstill, TopicPartition

POLL_S = 0.2


@dataclass(slots=True)
class _Window:
    """What one partition holds from `start` up to, not including, `end`: the offsets of its records."""

    reader: Reader
    start: int
    end: int
    offsets: Sequence[int] = ()


class Holes:
    """Asks one log, with at most one reader a partition; for one thread."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._windows: dict[TopicPartition, _Window] = {}

    def find_first(self, at: TopicPartition, start: int, *, end: int) -> int:
        """The first offset from `start` on at which the log holds a record; `end` where there is none before it.

        It waits until readers can see that far, because an open transaction may still become records. Raises
        OffsetLost, ReaderStalled, and LogUnavailable where no broker answers.
        """
        try:
            return min(end, self._find_first(at, start, end=end))
        except LogError:
            # After an error a reader's position says nothing.
            self._close(at)
            raise

    def close(self) -> None:
        """Release the readers."""
        for at in [*self._windows]:
            self._close(at)

    def _find_first(self, at: TopicPartition, start: int, *, end: int) -> int:
        window, standstill = self._window_at(at, start), Standstill(self._log, at, end)
        while True:
            place = bisect_left(window.offsets, start)
            if place < len(window.offsets):
                return window.offsets[place]
            if window.end >= end:
                return end
            standstill.check(window.end)
            records = window.reader.poll(POLL_S)
            # Up to the end of the window before there is nothing, so that it still begins where the question does.
            window.start, window.end = start, window.reader.position(at)
            window.offsets = [record.offset for record in records]
            if not records:
                # A reader waits while no broker answers; whoever asks here is told, and decides how to wait.
                self._log.bounds(at)

    def _window_at(self, at: TopicPartition, start: int) -> _Window:
        """What is known of the partition around an offset, or nothing yet, from there on."""
        window = self._windows.get(at)
        if window is None:
            window = self._windows[at] = _Window(self._log.reader({at: start}), start, start)
        elif not window.start <= start <= window.end:
            window.reader.seek(at, start)
            window.start, window.end, window.offsets = start, start, ()
        return window

    def _close(self, at: TopicPartition) -> None:
        window = self._windows.pop(at, None)
        if window is not None:
            window.reader.close()
