"""Whether the log answers at this moment, and where it ends: one thread asks, however many pages are open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Self

from ops.history.tables.projector import TOPICS
from ops.web.reading import HistoryReader
from schemas.errors import FedlogError
from schemas.topics import JOURNALS, TASKS
from streams.log import EventLog, LogRefused, TopicPartition

ASK_EVERY_S = 0.5
# Of every partition: a question more than twice a second would be asked for nobody.
ENDS_EVERY_S = 2.0
# A client of Kafka waits for ten seconds before it gives up, and people look at a page that is no longer true.
SILENCE_S = 1.2
# Every log has it, and whoever serves pages may read it.
_ASKED = TopicPartition(TASKS.name, 0)
_MARKS = 'SELECT topic, partition, "offset" FROM marks'
_MARKED = {topic.name for topic in JOURNALS}


@dataclass(frozen=True, slots=True)
class LogState:
    """What the log said last: whether it is away, and where each partition of the history ends, None while unknown."""

    is_away: bool
    ends: Mapping[TopicPartition, int] | None = None

    def count_unread(self, reader: HistoryReader) -> int | None:
        """How many offsets the history has not read; `reader` sees all of it. None while the ends are unknown."""
        if self.ends is None:
            return None
        rows = reader.ask(_MARKS).rows
        marks: dict[TopicPartition, int] = {TopicPartition(topic, number): offset for topic, number, offset in rows}
        # Behind the last record of a journal stands the marker of its transaction, which nobody reads.
        return sum(max(0, end - marks.get(at, 0) - (at.topic in _MARKED)) for at, end in self.ends.items())


class LogReach:
    """Asks the log for the end of one partition, twice a second. Use it as a context."""

    def __init__(self, open_log: Callable[[], AbstractContextManager[EventLog]]) -> None:
        self._open_log = open_log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reach", daemon=True)
        self._answered_s = time.monotonic()
        self._has_failed = False
        self._ends: Mapping[TopicPartition, int] | None = None

    @property
    def state(self) -> LogState:
        """The log as it was when it was asked last."""
        return LogState(self.is_away, self._ends)

    @property
    def is_away(self) -> bool:
        """Whether the last question has failed, or none was answered for longer than people should believe a page."""
        return self._has_failed or time.monotonic() - self._answered_s > SILENCE_S

    def __enter__(self) -> Self:
        self._answered_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A question that hangs ends with the process: nobody waits ten seconds for Ctrl-C.
        self._stop.set()
        self._thread.join(timeout=SILENCE_S)

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                with self._open_log() as log:
                    self._ask_on(log)
            # No broker can be named, or it refuses: for a page that is one and the same.
            except FedlogError:
                self._has_failed = True
                self._stop.wait(ASK_EVERY_S)

    def _ask_on(self, log: EventLog) -> None:
        """Ask until it is over; raises what the log raises."""
        ends_s = 0.0
        while not self._stop.is_set():
            log.find_written_end(_ASKED)
            self._answered_s, self._has_failed = time.monotonic(), False
            if time.monotonic() - ends_s > ENDS_EVERY_S:
                # Whoever may not read all of it still serves what another process keeps.
                with suppress(LogRefused):
                    self._ends = _find_ends(log)
                ends_s = time.monotonic()
            self._stop.wait(ASK_EVERY_S)


def _find_ends(log: EventLog) -> Mapping[TopicPartition, int]:
    places = [TopicPartition(topic, number) for topic in TOPICS for number in range(log.partitions)]
    return {at: bounds.end for at, bounds in log.list_bounds(places).items()}
