"""The loop of every worker: open what is ours, feed it, let time pass. It knows neither Faust nor Kafka.

`host` runs actors in it, `shard_host` a shard.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from actors.expiry import Expiry

DELETE_EVERY_S = 600.0


class Timer:
    """Says once in every interval that something is due; the first time at the end of the first one."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._began_s = time.monotonic()

    def is_due(self) -> bool:
        """Whether the interval is over; if so the next one begins."""
        if time.monotonic() - self._began_s < self._every_s:
            return False
        # From now on, not from when it was due: a host that was held up does not catch up.
        self._began_s = time.monotonic()
        return True


class HostLoop(ABC):
    """One worker's turns. What a turn raises ends the loop."""

    def __init__(self, expiry: Expiry) -> None:
        self._expiry = expiry
        self._deletion = Timer(DELETE_EVERY_S)

    async def run(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Take turns until `is_over`."""
        while not is_over():
            await self.turn()

    async def turn(self) -> None:
        """Open, feed, let time pass."""
        # Opened in every turn, not when an input comes: a partition whose inputs are quiet may have work to do.
        await self.open_assigned()
        await self.feed()
        await self.pass_time()

    @abstractmethod
    async def open_assigned(self) -> None:
        """Close what is no longer ours, and open what is."""

    @abstractmethod
    async def feed(self) -> int:
        """Hand on what has come, or wait a little for it; how many records that were."""

    async def pass_time(self) -> None:
        """Do what is due. Raises KeyExpired."""
        self._expiry.look()
        # After the inputs: what they have decided frees the most.
        if self._deletion.is_due():
            await self.delete_unneeded()

    @abstractmethod
    async def delete_unneeded(self) -> None:
        """Delete bodies that no decision needs any more."""
