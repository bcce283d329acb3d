"""The bodies of updates, fetched, opened and added up beside the actor's own thread, which decides.

One thread fetches, in order; several open and measure; one adds. What is under way is bounded in bytes on both sides of
the decision. Nothing is decided here: a body that is fetched in vain costs its fetch, and no more. Without threads, as
in a simulation, the same work is done at the call. Used by the aggregator's effects and by shard workers.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile

from msgspec import UNSET, UnsetType

from actors.effects.aggregator.bodies import IDLE_S, Bodies, present
from actors.effects.aggregator.summation import Measured, Summation
from actors.effects.sealing.opening import Bound
from schemas.identifiers import BodyRef
from schemas.leases import Lease
from schemas.sealing.envelopes import compute_stored_bytes_max
from streams.bodies import Absent

# What was sealed for one lease opens under no other, so that each has a result of its own.
_Key = tuple[str, BodyRef, str]
BUDGET_BYTES = 32 * 2**20  # of updates that wait to be decided, and again of those that wait to be added
ADDED_AT_ONCE_BYTES_MAX = 16_384  # a vector up to this size is added in less time than it takes to hand it over


@dataclass(frozen=True, slots=True)
class UpdateBody:
    """The body of an update, and how to measure it."""

    summation: Summation
    ref: BodyRef
    bound: Bound

    @property
    def update(self) -> str:
        """The update whose body it is."""
        return self.bound.lease if isinstance(self.bound, Lease) else self.bound.update

    @property
    def sealed_update(self) -> str | UnsetType:
        """The same where the body is sealed, and so opens under no other lease."""
        return self.update if self.summation.created.policy.is_sealed else UNSET

    @property
    def key(self) -> _Key:
        """All that the result depends on: a task's policy never changes."""
        return self.summation.created.task, self.ref, self.update

    def measure(self, found: bytes | Absent) -> Measured:
        """Open what was found and take its norm. Raises EpochKeyMissing."""
        return self.summation.measure(found, self.bound)

    @property
    def bytes_max(self) -> int:
        """Memory that it takes at most while it is under way: the body, and the vector in it."""
        created = self.summation.created
        return 2 * compute_stored_bytes_max(created.policy, created.parameters)


class _Threads:
    """One that fetches and one that adds, for this actor alone; the ones that measure may be shared."""

    def __init__(self, measurers: Executor) -> None:
        self.measurers = measurers
        self.fetcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetcher")
        self.adder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="adder")


class Intake:
    """For one actor; only its thread calls anything here."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._threads: _Threads | None = None
        self._waiting: dict[_Key, UpdateBody] = {}
        self._ahead: dict[_Key, tuple[Future[Future[Measured]], int]] = {}
        self._ahead_bytes = 0
        self._behind: deque[tuple[Future[None], int]] = deque()
        self._behind_bytes = 0
        self._rest_s = 0.0

    def use_threads(self, measurers: Executor) -> None:
        """From now on work in these threads, and in two of our own."""
        self._threads = self._threads or _Threads(measurers)

    @property
    def looks_ahead(self) -> bool:
        """Whether it helps to know what comes next."""
        return self._threads is not None

    def expect(self, bodies: Iterable[UpdateBody]) -> None:
        """Start on these bodies, which are taken next, in this order; what was expected before is dropped."""
        self._pass_over([*self._ahead])
        self._waiting = {body.key: body for body in bodies}
        self._look_ahead()
        # Here, because this is called for every run of inputs, and in the thread to which the readers belong.
        if self._threads is not None and (now_s := time.monotonic()) >= self._rest_s:
            self._rest_s = now_s + IDLE_S
            self._threads.fetcher.submit(self._bodies.rest)

    def measure(self, body: UpdateBody) -> Measured:
        """Fetch and measure this body; bodies expected before it are not taken any more.

        Raises LogError, EpochKeyMissing.
        """
        if body.key not in self._ahead and body.key not in self._waiting:
            return body.measure(self.find(body.ref))
        self._pass_over(takewhile(lambda key: key != body.key, [*self._ahead, *self._waiting]))
        self._look_ahead()
        future = self._pop_ahead(body.key)
        self._look_ahead()
        return future.result().result()

    def find(self, ref: BodyRef) -> bytes | Absent:
        """Any body, now, or the fact that it is not there."""
        if self._threads is None:
            return self._bodies.find(ref)
        return self._threads.fetcher.submit(self._bodies.find, ref).result()

    def fetch(self, ref: BodyRef) -> bytes:
        """Any body, now. Raises BodyLost."""
        return present(ref, self.find(ref))

    def add(self, add: Callable[[], None], *, nbytes: int) -> None:
        """Add a vector of this size to its sum, now or soon; `settle` waits for it."""
        if self._threads is None:
            add()
            return
        while self._behind and (self._behind[0][0].done() or self._behind_bytes > BUDGET_BYTES):
            self._wait_for_oldest()
        # Only when nothing is under way: two threads must not add to one sum at the same time.
        if nbytes <= ADDED_AT_ONCE_BYTES_MAX and not self._behind:
            add()
            return
        self._behind.append((self._threads.adder.submit(add), nbytes))
        self._behind_bytes += nbytes

    def settle(self) -> None:
        """Wait until all is added."""
        while self._behind:
            self._wait_for_oldest()

    def close(self) -> None:
        """Release threads and readers, without waiting for a broker."""
        self.expect(())
        if self._threads is None:
            self._bodies.close()
            return
        self._threads.fetcher.submit(self._bodies.close)
        self._threads.fetcher.shutdown(wait=False)
        self._threads.adder.shutdown(wait=False)

    def _wait_for_oldest(self) -> None:
        added, nbytes = self._behind.popleft()
        self._behind_bytes -= nbytes
        added.result()

    def _pop_ahead(self, key: _Key) -> Future[Future[Measured]]:
        future, nbytes = self._ahead.pop(key)
        self._ahead_bytes -= nbytes
        return future

    def _pass_over(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            self._waiting.pop(key, None)
            if key in self._ahead:
                self._pop_ahead(key).cancel()

    def _look_ahead(self) -> None:
        """Begin with as many as the budget allows, and always with one."""
        while self._waiting and self._threads is not None:
            key, body = next(iter(self._waiting.items()))
            nbytes = body.bytes_max
            if self._ahead and self._ahead_bytes + nbytes > BUDGET_BYTES:
                return
            del self._waiting[key]
            self._ahead[key] = self._threads.fetcher.submit(self._fetch, body, self._threads), nbytes
            self._ahead_bytes += nbytes

    def _fetch(self, body: UpdateBody, threads: _Threads) -> Future[Measured]:
        return threads.measurers.submit(body.measure, self._bodies.find(body.ref))
