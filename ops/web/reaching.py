"""Whether the log answers at this moment: one thread asks, however many pages are open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

from schemas.errors import FedlogError
from schemas.topics import TASKS
from streams.log import EventLog, TopicPartition

ASK_EVERY_S = 0.5
# A client of Kafka waits for ten seconds before it gives up, and people look at a page that is no longer true.
SILENCE_S = 1.2
# Every log has it, and whoever serves pages may read it.
_ASKED = TopicPartition(TASKS.name, 0)


class LogReach:
    """Asks the log for the end of one partition, twice a second. Use it as a context."""

    def __init__(self, open_log: Callable[[], AbstractContextManager[EventLog]]) -> None:
        self._open_log = open_log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reach", daemon=True)
        self._answered_s = time.monotonic()
        self._has_failed = False

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
        while not self._stop.is_set():
            log.find_written_end(_ASKED)
            self._answered_s, self._has_failed = time.monotonic(), False
            self._stop.wait(ASK_EVERY_S)
