"""The bodies of updates: fetched, opened, measured and added up beside the actor's own thread, which decides.

One thread fetches, in order; several open and measure; one adds. What is under way is bounded in bytes on both sides of
the decision. Nothing is decided here: an update that was expected in vain has cost its fetch, and no more. Without
threads, as in a simulation, the same work is done where it is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile

from actors.deciders.arithmetic import sums
from actors.effects.aggregator.bodies import Bodies, present
from schemas.events import BodyFault, TaskCreated
from schemas.identifiers import BodyRef
from schemas.tensors import BodyError, Quanta, body_bytes_max, read_update
from streams.bodies import Absent

_Key = tuple[str, BodyRef]
BUDGET_BYTES = 32 * 2**20  # of updates that wait to be decided, and again of those that wait to be added


@dataclass(frozen=True, slots=True)
class Wanted:
    """The body of an update of this task."""

    created: TaskCreated
    ref: BodyRef

    @property
    def key(self) -> _Key:
        """All that the result depends on: a task's policy never changes."""
        return self.created.task, self.ref

    @property
    def bytes_max(self) -> int:
        """What it takes up at most while it is under way: the body, and what is in it."""
        return 2 * body_bytes_max(self.created.policy.compression, self.created.parameters)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a body holds and its clip scale, or what is wrong with it."""

    quanta: Quanta | None
    scale: int = 0
    fault: BodyFault | None = None


def measured(created: TaskCreated, body: bytes | Absent) -> Measured:
    """Open a body and take its norm: a function of its bytes and of the task's policy."""
    if isinstance(body, Absent):
        return Measured(None, fault="body_absent")
    try:
        quanta = read_update(body, created.policy, parameters=created.parameters)
    except BodyError as error:
        return Measured(None, fault=error.fault)
    return Measured(quanta, sums.clip_scale(quanta, created.policy.clipping.steps))


class _Threads:
    """One that fetches and one that adds, for this actor alone; those that measure may be shared."""

    def __init__(self, measurers: Executor) -> None:
        self.measurers = measurers
        self.fetcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetcher")
        self.adder = ThreadPoolExecutor(max_workers=1, thread_name_prefix="adder")


class Intake:
    """For one actor; only its thread calls anything here."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._threads: _Threads | None = None
        self._waiting: dict[_Key, Wanted] = {}
        self._ahead: dict[_Key, tuple[Future[Future[Measured]], int]] = {}
        self._behind: deque[tuple[Future[None], int]] = deque()

    def employ(self, measurers: Executor) -> None:
        """From now on work in these threads, and in two of its own."""
        self._threads = self._threads or _Threads(measurers)

    @property
    def looks_ahead(self) -> bool:
        """Whether it helps to be told what comes next."""
        return self._threads is not None

    def expect(self, wanted: Iterable[Wanted]) -> None:
        """These are asked for next, in this order; what was expected before is forgotten."""
        self._pass_over([*self._ahead])
        self._waiting = {one.key: one for one in wanted}
        self._look_ahead()

    def take(self, wanted: Wanted) -> Measured:
        """What this body holds; those expected before it are not asked for any more. Raises LogError."""
        if wanted.key not in self._ahead and wanted.key not in self._waiting:
            return measured(wanted.created, self.find(wanted.ref))
        self._pass_over(takewhile(lambda key: key != wanted.key, [*self._ahead, *self._waiting]))
        self._look_ahead()
        future, _ = self._ahead.pop(wanted.key)
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

    def add(self, running: sums.RunningSum, quanta: Quanta, *, weight: int, scale: int) -> None:
        """Add to the sum, now or soon; `settle` waits for it."""
        if self._threads is None:
            running.add(quanta, weight=weight, scale=scale)
            return
        while self._behind and (self._behind[0][0].done() or sum(size for _, size in self._behind) > BUDGET_BYTES):
            self._behind.popleft()[0].result()
        future = self._threads.adder.submit(running.add, quanta, weight=weight, scale=scale)
        self._behind.append((future, quanta.values.nbytes))

    def settle(self) -> None:
        """Wait until all is added."""
        while self._behind:
            self._behind.popleft()[0].result()

    def close(self) -> None:
        """Let go of threads and readers, without waiting for a broker."""
        self.expect(())
        if self._threads is None:
            self._bodies.close()
            return
        self._threads.fetcher.submit(self._bodies.close)
        self._threads.fetcher.shutdown(wait=False)
        self._threads.adder.shutdown(wait=False)

    def _pass_over(self, keys: Iterable[_Key]) -> None:
        for key in keys:
            self._waiting.pop(key, None)
            if key in self._ahead:
                self._ahead.pop(key)[0].cancel()

    def _look_ahead(self) -> None:
        """Begin with as many as the budget allows, and always with one."""
        while self._waiting and self._threads is not None:
            key, wanted = next(iter(self._waiting.items()))
            if self._ahead and sum(size for _, size in self._ahead.values()) + wanted.bytes_max > BUDGET_BYTES:
                return
            del self._waiting[key]
            self._ahead[key] = self._threads.fetcher.submit(self._fetched, wanted, self._threads), wanted.bytes_max

    def _fetched(self, wanted: Wanted, threads: _Threads) -> Future[Measured]:
        return threads.measurers.submit(measured, wanted.created, self._bodies.find(wanted.ref))
