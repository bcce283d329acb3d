"""What requests bring, appended to the log together: an append costs more than the bytes in it, and so does a record.

A request is answered when its records are acknowledged and not before. What waits is bounded in bytes, and while no
broker answers nothing waits: requests are refused until a probe has succeeded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ops.gateway.refusals import Overloaded
from streams.log import Draft, EventLog, LogError
from streams.packing import MESSAGES_MAX, PACKED_BYTES_MAX, append_packed

# Whoever comes within so long of the last append waits for the rest of it, and so for company: whoever comes to a log
# at rest leaves at once.
GATHER_S = 0.010
BATCH_BYTES_MAX = 4 * 2**20
WAITING_BYTES_MAX = 64 * 2**20
IN_FLIGHT_MAX = 4
# An answer that takes longer is no answer for a device that waits; what arrives later is a repeat that counts once.
ACKNOWLEDGED_WITHIN_S = 10.0
PROBE_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    # All of one request: they are acknowledged together or not at all.
    drafts: Sequence[Draft]
    done: asyncio.Future[list[int]]
    size: int


@dataclass(slots=True)
class Breaker:
    """Whether the log is asked at all: closed while it answers; open after a failure, but for one probe at a time."""

    clock: Callable[[], float] = time.monotonic
    is_open: bool = False
    _probe_s: float = field(default=0.0, init=False)

    def admit(self) -> None:
        """Let a request through, or the one that finds out whether the log is back. Raises Overloaded."""
        if not self.is_open:
            return
        if self.clock() < self._probe_s:
            raise Overloaded("Kafka does not answer; nothing was taken.", code="log_away")
        # Half open: the next one may try only when this one has had its time.
        self._probe_s = self.clock() + PROBE_EVERY_S

    def note_answer(self) -> None:
        """The log has answered."""
        self.is_open = False

    def note_failure(self) -> None:
        """It has not."""
        self.is_open = True
        self._probe_s = self.clock() + PROBE_EVERY_S


class Appending:
    """Appends for all requests of a gateway. `run` works until it is cancelled."""

    def __init__(self, log: EventLog, *, breaker: Breaker | None = None) -> None:
        self._log, self.breaker = log, breaker or Breaker()
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0
        self._gathered_bytes = 0
        self._news, self._enough = asyncio.Event(), asyncio.Event()
        self._sent_s = -GATHER_S
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def waiting_bytes(self) -> int:
        """What has been taken in and is not acknowledged yet."""
        return self._waiting_bytes

    def require_room(self, size: int) -> None:
        """Nothing where so many bytes may come; asked before a body is read. Raises Overloaded."""
        self.breaker.admit()
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise Overloaded("Too much is waiting for Kafka.", code="queue_full")

    async def append(self, drafts: Sequence[Draft]) -> list[int]:
        """The offsets, once the log has acknowledged all of them. Raises Overloaded: then nobody knows."""
        size = sum(len(draft.value or b"") for draft in drafts)
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            raise Overloaded("Too much is waiting for Kafka.", code="queue_full")
        waiting = _Waiting(drafts, asyncio.get_running_loop().create_future(), size)
        self._waiting.append(waiting)
        self._waiting_bytes += size
        self._gathered_bytes += size
        self._news.set()
        if len(self._waiting) >= MESSAGES_MAX or self._gathered_bytes >= PACKED_BYTES_MAX:
            self._enough.set()
        try:
            # Shielded: whoever leaves takes no record back that is on its way.
            return await asyncio.wait_for(asyncio.shield(waiting.done), ACKNOWLEDGED_WITHIN_S)
        except TimeoutError:
            self.breaker.note_failure()
            raise Overloaded("Kafka did not acknowledge in time; send it again.", code="log_away") from None

    async def run(self) -> None:
        """Append what comes, until cancelled; then what was taken in is still appended."""
        try:
            while True:
                # Without news nothing runs: an idle gateway costs no processor time.
                await self._news.wait()
                await self._gather()
                await self._send_all()
        finally:
            await self._send_all()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _gather(self) -> None:
        rest_s = self._sent_s + GATHER_S - time.monotonic()
        if rest_s > 0:
            # What fills a record has no company to wait for.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), rest_s)

    async def _send_all(self) -> None:
        while self._waiting:
            # A slow log holds back what comes, and does not fill the threads of the process.
            await self._in_flight.acquire()
            batch = self._take_batch()
            task = asyncio.create_task(self._send(batch))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._sent_s = time.monotonic()
        self._news.clear()
        self._enough.clear()

    def _take_batch(self) -> list[_Waiting]:
        size = count = 0
        for waiting in self._waiting:
            if count and size + waiting.size > BATCH_BYTES_MAX:
                break
            size, count = size + waiting.size, count + 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._gathered_bytes -= size
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        try:
            drafts = [draft for each in batch for draft in each.drafts]
            offsets = iter(await asyncio.to_thread(append_packed, self._log, drafts))
            self.breaker.note_answer()
            for each in batch:
                _settle(each.done, [next(offsets) for _ in each.drafts])
        except LogError as error:
            self.breaker.note_failure()
            for each in batch:
                _fail(each.done, Overloaded(f"Kafka did not take it: {type(error).__name__}.", code="log_away"))
        except Exception as error:
            for each in batch:
                _fail(each.done, error)
            raise
        finally:
            self._waiting_bytes -= sum(each.size for each in batch)
            self._in_flight.release()


def _settle(done: asyncio.Future[list[int]], offsets: list[int]) -> None:
    if not done.done():
        done.set_result(offsets)


def _fail(done: asyncio.Future[list[int]], error: Exception) -> None:
    if not done.done():
        done.set_exception(error)
        # Whoever asked may have gone; an error that nobody fetches would be told on stderr.
        done.exception()
