"""Waits while no broker answers, and logs one line when a broker goes and one when it is back.

What goes on failing although a broker answers is told too, so that no wait without an end is a silent one.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from streams.log import LogError, LogUnavailable
from streams.notes import Notes

if TYPE_CHECKING:
    from concurrent.futures import Executor

T = TypeVar("T")
ASK_EVERY_S = 2.0
RETRY_EVERY_S = 1.0
# After an outage the clients of a process reconnect one by one: one that is late is no second outage.
SETTLES_S = 15.0
# The first line about a wait that goes on, and the time between two more.
TELLS_AFTER_S = 15.0
TELLS_EVERY_S = 60.0

logger = Notes(__name__)


@dataclass(slots=True)
class Outage:
    """Whether the brokers answer this process. Every client of it reports here, from any thread."""

    servers: str
    answers: bool | None = field(default=None, init=False)  # None until the first request has ended
    _answered_s: float = field(default_factory=time.monotonic, init=False)
    _back_s: float = field(default=-SETTLES_S, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def silent_s(self) -> float:
        """Seconds since the last answer; since the beginning, before the first."""
        return time.monotonic() - self._answered_s

    def note_silence(self, error: str) -> None:
        """A request got no answer."""
        with self._lock:
            # Many clients miss one outage: only the first says so.
            if self.answers is not False and time.monotonic() - self._back_s >= SETTLES_S:
                self.answers = False
                logger.warning("broker_away", servers=self.servers, error=error)

    def note_answer(self) -> None:
        """A request got its answer."""
        with self._lock:
            if self.answers is False:
                logger.warning("broker_back", servers=self.servers, away_s=round(self.silent_s, 1))
                self._back_s = time.monotonic()
            self.answers, self._answered_s = True, time.monotonic()


@dataclass(slots=True)
class _Wait:
    """Tells of a wait that goes on, with the error that it waits out."""

    outage: Outage | None
    _since_s: float
    _next_s: float = TELLS_AFTER_S  # how long it has to last until the next line

    def note(self, error: LogUnavailable) -> None:
        """It has failed once more."""
        if self.outage is not None and self.outage.answers is False:
            # `broker_away` has been logged: only what lasts beyond the outage is news.
            self._since_s, self._next_s = time.monotonic(), TELLS_AFTER_S
            return
        waited_s = time.monotonic() - self._since_s
        if waited_s >= self._next_s:
            self._next_s = waited_s + TELLS_EVERY_S
            logger.warning("still_waiting", waited_s=round(waited_s, 1), error=str(error))


def retry_until_available(
    call: Callable[[], T], *, every_s: float = RETRY_EVERY_S, outage: Outage | None = None, patience_s: float = math.inf
) -> T:
    """Call until a broker answers, every `every_s` seconds; only for a call that may be made again.

    A wait that goes on is logged, but not during an outage that `outage` has logged. Raises LogUnavailable where the
    wait has taken longer than `patience_s`.
    """
    began_s = time.monotonic()
    wait = _Wait(outage, began_s)
    while True:
        try:
            return call()
        except LogUnavailable as error:
            if time.monotonic() - began_s > patience_s:
                raise
            wait.note(error)
            time.sleep(every_s)


async def run_until_available(call: Callable[[], T], threads: Executor, *, outage: Outage | None = None) -> T:
    """The same in other threads, while an event loop goes on."""
    # Only hosts have an event loop, and a console is half ready before it is imported.
    import asyncio

    wait = _Wait(outage, time.monotonic())
    while True:
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, call)
        except LogUnavailable as error:
            wait.note(error)
            await asyncio.sleep(RETRY_EVERY_S)


def keep_asking(request: Callable[[], object]) -> None:
    """Make the request every two seconds, in its own thread, so that an outage shows where nothing else asks."""

    def ask() -> None:
        while True:
            with contextlib.suppress(LogError):
                request()
            time.sleep(ASK_EVERY_S)

    # A daemon, because it must not keep a process alive that has ended.
    threading.Thread(target=ask, name="asker", daemon=True).start()
