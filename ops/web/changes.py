"""One reader that waits for the history to move, for however many streams are open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from starlette.requests import HTTPConnection

from ops.history.tables.positions import Position
from ops.web.reading import HistoryReader
from schemas.errors import FedlogError

HEARTBEAT_S = 1.0
# Between two tries to reach whoever writes the history.
RETRY_S = 0.5
LOOK_EVERY_S = 0.25


class Refresh(FedlogError):
    """The history was built anew: what was read of it before has other numbers."""

    code = "generation_gone"


def parse_last_event_id(request: HTTPConnection) -> Position | None:
    """Up to where the client of a stream has read; None for one that begins, or says nothing that can be understood."""
    return Position.parse(request.headers.get("last-event-id", ""))


class Changes:
    """Wakes whoever follows whenever the history has moved. `watch` runs once, beside the server.

    `is_log_away`: whether the log, from which all news comes, is out of reach.
    """

    def __init__(self, reader: HistoryReader, *, is_log_away: Callable[[], bool] = lambda: False) -> None:
        self._reader, self._is_log_away = reader, is_log_away
        self._moved = asyncio.Condition()
        self.position: Position | None = None
        self.is_reachable = True
        self.is_over = False

    @property
    def problem(self) -> str:
        """What is out of reach at this moment: `log`, `history` or nothing."""
        # The log first: a history that nobody can write because of it is no second problem.
        return "log" if self._is_log_away() else "" if self.is_reachable else "history"

    async def watch(self) -> None:
        """Follow history and log until this is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_history())
            group.create_task(self._watch_problem())

    async def _watch_problem(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            # Told at once and not with the next beat: two seconds are all that a page has to say so.
            if self.problem != told:
                told = self.problem
                async with self._moved:
                    self._moved.notify_all()

    async def _watch_history(self) -> None:
        while True:
            try:
                position = await asyncio.to_thread(self._read_next)
            except FedlogError:
                self.is_reachable = False
                await asyncio.sleep(RETRY_S)
                continue
            self.is_reachable = True
            # Nobody is woken for nothing: every second a hundred pages would ask the same again.
            if position != self.position:
                async with self._moved:
                    self.position = position
                    self._moved.notify_all()

    async def end(self) -> None:
        """Let everybody who follows come to an end: the server ends, and browsers go on with the next one."""
        self.is_over = True
        async with self._moved:
            self._moved.notify_all()

    async def follow(self, after: Position | None) -> AsyncIterator[Position | None]:
        """The newest position each time that it has moved; None once a second without, and at news of problems.

        It ends with the server. Raises Refresh.

        Whoever is slow gets the newest alone: nothing waits in a queue.
        """
        known = after
        while not self.is_over:
            if self.position in (None, known):
                await self._wait()
            now = self.position
            if now is None or now == known:
                yield None
                continue
            # A smaller number of the same generation cannot be: what was stored stays stored.
            if known is not None and not now.covers(known):
                raise Refresh
            known = now
            yield now

    async def reach(self, position: Position, *, timeout_s: float) -> bool:
        """Wait until the history stands there; whether it does. No thread waits for it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._moved:
                await self._moved.wait_for(lambda: self._settles(position))
        return self.position is not None and self.position.covers(position)

    def _settles(self, position: Position) -> bool:
        """Whether it is known by now that the history stands there, or never will."""
        now = self.position
        return now is not None and (now.covers(position) or now.generation != position.generation)

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARTBEAT_S), self._moved:
                await self._moved.wait()

    def _read_next(self) -> Position:
        known = self.position
        if known is not None:
            # It ends on its own, so that a history that was built anew is noticed too.
            self._reader.wait(known.next(), timeout_s=HEARTBEAT_S)
        return self._reader.position
