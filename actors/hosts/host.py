"""Hosts actors: one on each partition that is ours, fed from a carrier that need not be trusted with offsets.

Every actor opens by claim and replay, every input is sought to the position in its journal, and what was decided before
is skipped. Partitions are decided side by side, each by one thread at a time: most of a decision is waiting for the
commit, and partitions share nothing. The event loop does none of it and stays free for the carrier's heartbeats.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog

from actors.expiry import Expiry
from actors.hosts.assembly import assemble
from actors.hosts.assignment import Assignment, Carrier
from actors.hosts.event_log import TurningPoints
from actors.hosts.inbox import Delivery
from actors.hosts.loop import HostLoop, Timer
from actors.hosts.metrics import ActorMetrics
from actors.hosts.unseen import Unseen
from actors.hosts.worker import Worker, make_measurers
from actors.runtime.actor import Actor
from actors.runtime.guard import Guard, StateHalfApplied
from actors.runtime.inputs import Gap
from actors.runtime.role import Role
from schemas.canonical import encode
from schemas.events import Tick
from streams.log import Bounds, Draft, LogError, LogUnavailable, OffsetLost, TopicPartition
from streams.retry import run_until_available

TICK_EVERY_S = 1.0
LAG_EVERY_S = 15.0
HANGS_LOOKS = 3
# Run single-threaded for the first 10 s, so that an input that crashes the process is the one recorded as current.
ALONE_S = 10.0
OPENERS = 8
DECIDERS = 8

T = TypeVar("T")
logger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Threads:
    """Of all actors. Deciding and opening are mostly waiting for the broker, so that there are more than cores."""

    deciders: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, DECIDERS, "decider"))
    openers: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, OPENERS, "opener"))
    measurers: ThreadPoolExecutor = field(default_factory=make_measurers)

    def finish(self) -> None:
        """Return when none of them does anything."""
        for threads in (self.openers, self.deciders, self.measurers):
            threads.shutdown()


@dataclass(frozen=True, slots=True)
class _Timers:
    """What a host does now and then: mark the passing of time, and compare its partitions with the log."""

    tick: Timer = field(default_factory=partial(Timer, TICK_EVERY_S))
    lag: Timer = field(default_factory=partial(Timer, LAG_EVERY_S))


class Host(HostLoop):
    """The actors of one role in one process. An exception leaves a doubt that only a new claim can settle: end then."""

    def __init__(self, role: Role, worker: Worker, *, carrier: Carrier) -> None:
        super().__init__(Expiry(worker.options.key))
        self._role, self._worker, self._carrier = role, worker, carrier
        self._metrics = ActorMetrics(role, worker.metrics.instruments)
        self._observers = (self._metrics, TurningPoints(role))
        self._actors: dict[int, Actor[Any]] = {}
        self._guards: dict[int, Guard] = {}
        if (poison := worker.options.poison_input) is not None:
            self._guard_of(poison.partition).skips[poison.place] = poison.skip
        self._threads = _Threads()
        self._assignment = Assignment(role.inputs, carrier)
        # A stranger's transaction may last 15 s, and until a broker looks for such: two intervals outlast it, one not.
        self._unseen = Unseen(looks=HANGS_LOOKS)
        self._timers = _Timers()
        self._alone_until_s = time.monotonic() + ALONE_S

    def finish(self) -> None:
        """Return when what is being decided is decided; nothing may be asked of this host then."""
        self._threads.finish()

    # --- open -------------------------------------------------------------------------------------------------------

    async def open_assigned(self) -> None:
        """Close actors whose partition was taken away, and open one on each new partition."""
        ours = self._assignment.find_partitions()
        for partition in [*self._actors]:
            if partition not in ours:
                await self._in_thread(self._actors.pop(partition).close)
        if self._carrier.is_rebalancing:
            return
        if self._assignment.has_changed():
            # A rebalance ends by moving every input to the group's offset, over our own position.
            await self._seek(*self._actors)
        await asyncio.gather(*(self._open(partition) for partition in ours - self._actors.keys()))

    async def _open(self, partition: int) -> None:
        started_s = time.monotonic()
        actor = await self._in_thread(partial(self._claim, partition), self._threads.openers)
        self._actors[partition] = actor
        await self._seek(partition)
        await self._in_thread(actor.work)
        seconds = time.monotonic() - started_s
        self._metrics.show_opening(partition, actor, seconds=seconds)
        logger.info(
            "opened",
            partition=partition,
            decisions=actor.opened.decisions,
            snapshot=actor.opened.snapshot and actor.opened.snapshot.written.at.seq,
            seconds=round(seconds, 3),
        )

    def _claim(self, partition: int) -> Actor[Any]:
        """A new actor that has claimed its journal and replayed it."""
        actor = assemble(
            self._role.name, partition, log=self._worker.log, key=self._worker.options.key, observers=self._observers
        )
        actor.guard = self._guard_of(partition)
        if (marker := self._worker.options.crash_marker) is not None:
            actor.guard.mark_in_hand = partial(marker.put, partition)
        try:
            actor.open()
        except LogUnavailable:
            # It is waited for with another actor, whose claim ends what this one's may have left open.
            actor.close()
            raise
        return actor

    def _guard_of(self, partition: int) -> Guard:
        """What has failed on a partition, which each actor of it has to know from the one before."""
        return self._guards.setdefault(partition, Guard(self._role.name, partition))

    async def _seek(self, *partitions: int) -> None:
        """Have every input of these delivered from the first record that is not decided."""
        for at, (beginning, _) in (await self._list_bounds(*partitions)).items():
            offset = self._actors[at.partition].find_expected(at.topic)
            if 0 < offset < beginning:
                raise OffsetLost(
                    f"{at}: the next undecided offset is {offset}, and the log begins at "
                    f"{beginning}; inputs were deleted before they were decided"
                )
            if offset < beginning:
                # Never read, and the log no longer reaches back to its first record: that is no gap.
                self._actors[at.partition].skip(at.topic, beginning)
            await self._carrier.seek(at, max(offset, beginning))

    async def _list_bounds(self, *partitions: int) -> dict[TopicPartition, Bounds]:
        """Of every input of these partitions."""
        # All at once: asked one by one, the inputs of many partitions held up their decisions for seconds.
        places = [TopicPartition(topic, partition) for partition in partitions for topic in self._role.inputs]
        return await self._in_thread(partial(self._worker.log.list_bounds, places))

    # --- feed -------------------------------------------------------------------------------------------------------

    async def feed(self) -> int:
        """Have what was delivered decided, partition by partition, and acknowledge what is in the journals."""
        deliveries = await self._carrier.inbox.drain()
        by_partition: defaultdict[int, list[Delivery]] = defaultdict(list)
        for delivery in deliveries:
            by_partition[delivery.record.partition].append(delivery)
        # Records of a partition that is not ours any more are dropped: its next host seeks to its position.
        ours = [(partition, group) for partition, group in by_partition.items() if partition in self._actors]
        if self._is_alone():
            for partition, group in ours:
                await self._decide(partition, group)
        else:
            # The first doubt ends the process, whatever the others are doing: their next claim finds out about them.
            await asyncio.gather(*(self._decide(partition, group) for partition, group in ours))
        return len(deliveries)

    async def _decide(self, partition: int, deliveries: Sequence[Delivery]) -> None:
        """Have these decided and acknowledge them; where that fails they will be delivered again."""
        if await self._handle(partition, deliveries):
            for delivery in deliveries:
                delivery.acknowledge()

    async def _handle(self, partition: int, deliveries: Sequence[Delivery]) -> bool:
        """Whether all of these are decided."""
        actor = self._actors[partition]
        try:
            await self._in_thread(partial(actor.handle, [delivery.record for delivery in deliveries]))
        except Gap as gap:
            logger.info("gap", topic=gap.topic, partition=partition, expected=gap.expected, found=gap.found)
            # Every input, because what came behind the gap in the same run was not decided either.
            await self._seek(partition)
            return False
        except StateHalfApplied as error:
            if isinstance(error.__cause__, LogError) and not isinstance(error.__cause__, LogUnavailable):
                raise
            logger.error("actor_discarded", partition=partition, error=str(error))
            await self._in_thread(self._actors.pop(partition).close)
            return False
        await self._in_thread(actor.work)
        return True

    def _is_alone(self) -> bool:
        """Whether one thread still does all, one partition after the other."""
        return time.monotonic() <= self._alone_until_s

    # --- let time pass ----------------------------------------------------------------------------------------------

    async def pass_time(self) -> None:
        """Measure, delete and tick when that is due."""
        if not self._is_alone():
            for actor in self._actors.values():
                actor.use_threads(self._threads.measurers)
        if self._timers.lag.is_due():
            await self._measure_lag()
            await self._discard_unseen()
        await super().pass_time()
        if self._role.ticks is not None and self._timers.tick.is_due():
            await self._send_ticks(self._role.ticks)

    async def delete_unneeded(self) -> None:
        """Have each actor delete what no decision of it needs."""
        for actor in self._actors.values():
            await self._in_thread(actor.delete_unneeded)

    async def _send_ticks(self, topic: str) -> None:
        """Mark the passing of time where it alone could change something."""
        value = encode(Tick())
        waiting = [partition for partition, actor in self._actors.items() if actor.wants_tick()]
        if waiting:
            ticks = [Draft(topic=topic, partition=partition, value=value) for partition in waiting]
            await self._in_thread(partial(self._worker.log.append, ticks))

    async def _measure_lag(self) -> None:
        for at, bounds in (await self._list_bounds(*self._actors)).items():
            self._metrics.show_lag(at, max(0, bounds.end - self._actors[at.partition].find_expected(at.topic)))

    async def _discard_unseen(self) -> None:
        """Discard each actor whose commits readers have not seen for two intervals: a broker has forgotten markers.

        The claim of the next one ends the transaction that hangs. An actor that waits for what it has caused would not.
        """
        ends = {at: end for actor in self._actors.values() for at, end in actor.list_ends().items()}
        for at, offset in (await self._in_thread(partial(self._unseen.look, self._worker.log, ends))).items():
            if (actor := self._actors.pop(at.partition, None)) is not None:
                logger.warning("transaction_hangs", topic=at.topic, partition=at.partition, offset=offset)
                await self._in_thread(actor.close)

    async def _in_thread(self, call: Callable[[], T], threads: Executor | None = None) -> T:
        """Do an actor's work in a thread, again and again while the broker is away. One call at a time an actor."""
        return await run_until_available(call, threads or self._threads.deciders, outage=self._worker.log.outage)
