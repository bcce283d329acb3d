"""Streams that stay open: of whom, how many, and until when. The gate sees a request once; a stream outlives it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar

from ops.web.access.limiting import Places, RateExceeded
from ops.web.callers import Caller

EACH_MAX, ALL_MAX = 64, 1_000
T = TypeVar("T")


class Watchers:
    """Who follows a stream at the moment."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # Each holds a socket, and is woken whenever the history moves.
        self._places = Places(each_max=EACH_MAX, all_max=ALL_MAX)

    @property
    def count(self) -> int:
        """How many follow."""
        return self._places.count

    def admit(self, caller: Caller, messages: AsyncIterator[T]) -> AsyncIterator[T]:
        """The same messages, for as long as the caller's token holds. Raises RateExceeded where there are too many."""
        # Counted from the first message on: of a client that is gone before, nobody would count the end.
        self._places.check(caller.subject)
        return self._follow(caller, messages)

    async def _follow(self, caller: Caller, messages: AsyncIterator[T]) -> AsyncIterator[T]:
        try:
            self._places.take(caller.subject)
        # Many that came at once: its answer has begun, so that it ends; whoever comes back is told to wait.
        except RateExceeded:
            return
        try:
            async with aclosing(messages):  # type: ignore[type-var]
                async for message in messages:
                    if self._clock() >= caller.until_s:
                        return
                    yield message
        finally:
            self._places.leave(caller.subject)
