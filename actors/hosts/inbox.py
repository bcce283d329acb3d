"""Records that have come for a host and are not decided yet: `faust_app` puts them in, `host` takes them out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from streams.log import Record
from streams.packing import count_messages

IDLE_WAIT_S = 0.2
# A batch costs the same for one input as for fifty, so under load inputs wait for each other: at least so long, and
# the longer the more of them came together, up to where a device would notice.
PACE_S = 0.02
PACE_PER_INPUT_S = 0.005
PACE_S_MAX = 0.06
RECORDS_MAX = 2_000
BYTES_MAX = 32 * 2**20
# A run is decided without a break and holds back every answer in it, so it is short also where records hold many.
RUN_INPUTS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One record, and what to call once the log holds its outcome. Without that call it is delivered again."""

    record: Record
    acknowledge: Callable[[], object]


class Inbox:
    """A queue bounded in records and bytes; who puts into a full one waits."""

    def __init__(self) -> None:
        # Bounded, so that a host that falls behind slows its consumer down instead of filling the memory.
        self._queue: asyncio.Queue[Delivery] = asyncio.Queue(RECORDS_MAX)
        self._bytes, self._taken = 0, asyncio.Event()
        self._next_s = 0.0

    async def put(self, delivery: Delivery) -> None:
        """Add a record."""
        while self._bytes >= BYTES_MAX:
            self._taken.clear()
            await self._taken.wait()
        self._bytes += _size_of(delivery)
        await self._queue.put(delivery)

    async def drain(self) -> list[Delivery]:
        """All that is there, up to a run: at once when it was quiet, else paced; an empty list after a short wait."""
        try:
            deliveries = [await asyncio.wait_for(self._queue.get(), IDLE_WAIT_S)]
        except TimeoutError:
            return []
        await asyncio.sleep(max(0.0, self._next_s - time.monotonic()))
        inputs = _count_inputs(deliveries[0])
        while not self._queue.empty() and inputs < RUN_INPUTS_MAX:
            deliveries.append(self._queue.get_nowait())
            inputs += _count_inputs(deliveries[-1])
        self._bytes -= sum(map(_size_of, deliveries))
        self._taken.set()
        # A message that came alone says that there is no load, so the next one is not paced.
        self._next_s = time.monotonic() + choose_pace_s(inputs)
        return deliveries


def choose_pace_s(inputs: int) -> float:
    """How long the next run waits for company after one of so many inputs."""
    return min(PACE_S_MAX, max(PACE_S, PACE_PER_INPUT_S * inputs)) if inputs > 1 else 0.0


def _size_of(delivery: Delivery) -> int:
    return len(delivery.record.value or b"")


def _count_inputs(delivery: Delivery) -> int:
    return count_messages(delivery.record.value or b"")
