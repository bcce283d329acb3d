"""Records that have come for a host and are not decided yet: `faust_app` puts them in, `host` takes them out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.log import Record

IDLE_WAIT_S = 0.2
# A batch costs the same for one input as for fifty, so under load inputs wait this long for each other.
PACE_S = 0.02
RECORDS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One record, and what to call once the log holds its outcome. Without that call it is delivered again."""

    record: Record
    acknowledge: Callable[[], object]


class Inbox:
    """A bounded queue; who puts into a full one waits."""

    def __init__(self) -> None:
        # Bounded, so that a host that falls behind slows its consumer down instead of filling the memory.
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue(RECORDS_MAX)
        self._next_s = 0.0

    async def put(self, delivery: Delivery) -> None:
        """Add a record."""
        await self._queue.put(delivery)

    async def drain(self) -> list[Delivery]:
        """All that is there: at once when it has been quiet, else paced; an empty list after a short wait."""
        try:
            deliveries = [await asyncio.wait_for(self._queue.get(), IDLE_WAIT_S)]
        except TimeoutError:
            return []
        await asyncio.sleep(max(0.0, self._next_s - time.monotonic()))
        while not self._queue.empty():
            deliveries.append(self._queue.get_nowait())
        # A record that came alone says that there is no load, so the next one is not paced.
        self._next_s = time.monotonic() + PACE_S if len(deliveries) > 1 else 0.0
        return deliveries
