"""Faust as the host of actors: it says which partitions are ours and delivers their records; no more is left to it.

What Faust must not be trusted with (its exactly-once, its tables, its group offsets) is decided by the journal instead:
every actor opens by claim and replay, seeks every input to the position in its journal, and skips what it has decided.
All deciding is done by one thread, so that the event loop stays free for heartbeats.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiokafka
import faust
import structlog
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from actors import keys
from actors.hosts.assembly import assemble
from actors.hosts.crash_marker import CrashMarker
from actors.hosts.event_log import TurningPoints
from actors.hosts.metrics import ActorMetrics, WorkerMetrics
from actors.runtime.actor import Actor, Gap
from actors.runtime.guard import InputPlace, PoisonInput, Skip, StateHalfApplied
from actors.runtime.role import Role
from actors.wiring import ROLES
from schemas.canonical import encode
from schemas.events import Tick
from schemas.journal import Decision
from schemas.topics import CATALOGUE
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, LogError, LogUnavailable, OffsetLost, Record, TopicPartition
from streams.retry import keep_asking, retry_until_available

logger = structlog.get_logger()
T = TypeVar("T")

EXIT_UNCERTAIN = 70
SESSION_TIMEOUT_S = 8.0
TICK_EVERY_S = 1.0
LAG_EVERY_S = 15.0
HOUSEKEEP_EVERY_S = 600.0
IDLE_WAIT_S = 0.2
# A batch costs the same for one input as for fifty: where they come in numbers they wait this long for each other.
PACE_S = 0.02
UNEVEN_FOR_S = 30.0
QUEUE_RECORDS = 2_000
MEASURERS = min(8, os.cpu_count() or 2)
# So long the actor's thread does all: an input that kills comes again soon after, and then it is the one in hand.
ALONE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How to reach the cluster, and what this worker is. `instance` names it in the group across restarts.

    `breadcrumb` is where it leaves the input in hand, `deadly` one that its forerunners died of.
    """

    kafka: KafkaSettings
    operator_key_file: Path
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    instance: str | None = None
    breadcrumb: CrashMarker | None = None
    deadly: PoisonInput | None = None


def run(name: str, options: WorkerOptions) -> None:
    """Host the actor `name` until stopped. Exits 70 when only a new claim can find out what has happened."""
    host = Host(ROLES[name], options)
    worker = faust.Worker(host.app, loglevel="WARNING", override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it writes escape codes between the lines of the log, terminal or not
    worker.execute_from_commandline()


class Host:
    """One worker process: the partitions that Faust assigns to it, an actor on each."""

    def __init__(self, role: Role, options: WorkerOptions) -> None:
        self._role = role
        self._kafka = options.kafka
        self._key = keys.load(options.operator_key_file)
        self._log = KafkaLog(options.kafka)
        metrics = WorkerMetrics()
        metrics.watch(self._log.outage)
        metrics.serve(options.metrics_host, options.metrics_port)
        self._metrics, self._turning_points = ActorMetrics(role, metrics.instruments), TurningPoints(role)
        # Deadlines compare append times and tasks live in one partition: topics that break this are refused (law 10).
        retry_until_available(partial(self._log.check_topics, CATALOGUE))
        keep_asking(partial(self._log.bounds, TopicPartition(role.journal, 0)))
        self._actors: dict[int, Actor[Any]] = {}
        self._passes: defaultdict[int, dict[InputPlace, Skip]] = defaultdict(dict)
        if options.deadly is not None:
            self._passes[options.deadly.partition][options.deadly.at] = options.deadly.passing
        self._breadcrumb = options.breadcrumb
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="actor")
        # The aggregator's, for arithmetic on bodies: numpy, zstd and sha256 let go of the interpreter's lock.
        self._measurers = ThreadPoolExecutor(MEASURERS, thread_name_prefix="measurer")
        self._openers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="opener")
        self._queue: asyncio.Queue[Any] | None = None
        self._rebalances = 0
        self._ticked_s = self._next_s = 0.0
        self._began_s = self._measured_s = self._housekept_s = time.monotonic()
        self._uneven_since_s: float | None = None
        self.app = _faust_app(role, options)
        prefix = options.kafka.topic_prefix
        self._names = {f"{prefix}.{topic}" if prefix else topic: topic for topic in role.inputs}
        self._broker_names = {topic: name for name, topic in self._names.items()}
        self._attach()

    def _attach(self) -> None:
        channel = self.app.topic(
            *self._names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
        )
        self.app.agent(channel, name="inputs")(self._receive)
        self.app.task(self._pump)

    async def _receive(self, stream: Any) -> None:
        """Faust's agent: everything it gets goes to the pump, unacknowledged."""
        async for event in stream.noack().events():
            await self._inbox().put(event)

    def _inbox(self) -> asyncio.Queue[Any]:
        if self._queue is None:
            self._queue = asyncio.Queue(QUEUE_RECORDS)
        return self._queue

    # --- the pump: the only place where actors are opened, fed and closed -------------------------------------------

    async def _pump(self) -> None:
        try:
            while not self.app.should_stop:
                await self._open_assigned()
                await self._handle(await self._drain())
                await self._pass_time()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            logger.critical("worker ends", actor=self._role.name, error=repr(error), exc_info=error)
            os._exit(EXIT_UNCERTAIN)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Run actor work in the one thread that does it."""
        return await self._waited(call, self._thread)

    async def _waited(self, call: Callable[[], T], threads: ThreadPoolExecutor) -> T:
        """Run what may be run again, and wait for a broker that is away; what waits here has nothing half done."""
        while True:
            try:
                return await asyncio.get_running_loop().run_in_executor(threads, call)
            except LogUnavailable:
                await asyncio.sleep(1.0)

    async def _open_assigned(self) -> None:
        mine = self._assigned()
        for partition in [*self._actors]:
            if partition not in mine:
                await self._in_thread(self._actors.pop(partition).close)
        if self.app.rebalancing:
            return
        if self._rebalances != self.app.rebalancing_count:
            # Its last act was to move every input to the group's offset, over our own position.
            self._rebalances = self.app.rebalancing_count
            for partition in self._actors:
                await self._seek(partition)
        # Side by side, because opening is mostly waiting for the broker.
        await asyncio.gather(*(self._open(partition) for partition in mine - self._actors.keys()))

    async def _open(self, partition: int) -> None:
        started_s = time.monotonic()
        actor = await self._waited(lambda: self._opened(partition), self._openers)
        self._actors[partition] = actor
        await self._seek(partition)
        await self._in_thread(actor.work)
        seconds = time.monotonic() - started_s
        self._metrics.show_opening(partition, actor, seconds=seconds)
        logger.info(
            "opened",
            partition=partition,
            decisions=actor.replayed_decisions,
            snapshot=actor.snapshot and actor.snapshot.written.at.seq,
            seconds=round(seconds, 3),
        )

    def _opened(self, partition: int) -> Actor[Any]:
        actor = assemble(self._role.name, partition, log=self._log, key=self._key, observer=self)
        actor.passes = self._passes[partition]
        if self._breadcrumb is not None:
            actor.in_hand = partial(self._breadcrumb.put, partition)
        actor.open()
        return actor

    def restored(self, state: object) -> None:
        """An actor goes on from a snapshot: gauges follow it too."""
        self._metrics.restored(state)

    def replayed(self, decision: Decision) -> None:
        self._metrics.replayed(decision)

    def decided(self, decision: Decision, seq: int) -> None:
        self._metrics.decided(decision, seq)
        self._turning_points.decided(decision, seq)

    def _assigned(self) -> set[int]:
        """Partitions of which every input is ours; half a partition for long is fatal."""
        inputs: defaultdict[int, set[str]] = defaultdict(set)
        for tp in self.app.consumer.assignment():
            if tp.topic in self._names:
                inputs[tp.partition].add(self._names[tp.topic])
        whole = {partition for partition, topics in inputs.items() if topics == set(self._role.inputs)}
        if whole == inputs.keys():
            self._uneven_since_s = None
        elif self._uneven_since_s is None:
            self._uneven_since_s = time.monotonic()
        elif time.monotonic() - self._uneven_since_s > UNEVEN_FOR_S:
            raise RuntimeError(f"partitions are assigned by halves: {dict(inputs)}; same release on all workers?")
        return whole

    async def _seek(self, partition: int) -> None:
        for topic in self._role.inputs:
            tp = faust.types.TP(self._broker_names[topic], partition)
            offset = self._actors[partition].expected(topic)
            bounds = await self._in_thread(partial(self._log.bounds, TopicPartition(topic, partition)))
            if 0 < offset < bounds.beginning:
                raise OffsetLost(
                    f"{topic}[{partition}]: the next undecided offset is {offset}, and the log begins at "
                    f"{bounds.beginning}; inputs were deleted before they were decided"
                )
            if offset < bounds.beginning:
                # Never read, and the log no longer reaches back to its first record: that is no gap.
                self._actors[partition].skip(topic, bounds.beginning)
            try:
                await self.app.consumer.seek(tp, max(offset, bounds.beginning))
            except aiokafka.errors.IllegalStateError:
                # Taken away by a rebalance; if it comes back, the end of that rebalance seeks again.
                return

    async def _drain(self) -> list[Any]:
        """What is there, at once unless there was something just now; else the first that comes within a short wait."""
        inbox = self._inbox()
        try:
            events = [await asyncio.wait_for(inbox.get(), IDLE_WAIT_S)]
        except TimeoutError:
            return []
        await asyncio.sleep(max(0.0, self._next_s - time.monotonic()))
        while not inbox.empty():
            events.append(inbox.get_nowait())
        # One that came alone says that there is no load.
        self._next_s = time.monotonic() + PACE_S if len(events) > 1 else 0.0
        return events

    async def _handle(self, events: list[Any]) -> None:
        by_partition: defaultdict[int, list[Any]] = defaultdict(list)
        for event in events:
            by_partition[event.message.partition].append(event)
        for partition, ours in by_partition.items():
            actor = self._actors.get(partition)
            if actor is None:
                continue  # not ours any more: whoever opens it seeks to its position
            records = [self._record(event.message) for event in ours]
            try:
                await self._in_thread(partial(actor.handle, records))
            except Gap as gap:
                await self._mind(partition, gap)
                continue
            except StateHalfApplied as spoilt:
                if isinstance(spoilt.__cause__, LogError) and not isinstance(spoilt.__cause__, LogUnavailable):
                    raise
                logger.error("opens anew", partition=partition, error=str(spoilt))
                await self._in_thread(self._actors.pop(partition).close)
                continue
            await self._in_thread(actor.work)
            for event in ours:
                event.ack()

    async def _mind(self, partition: int, gap: Gap) -> None:
        """Ask the log itself whether it holds anything in the gap: if so go back, else the hole is real."""
        first = await self._in_thread(lambda: self._first_at(gap, partition))
        if first == gap.found:
            self._actors[partition].skip(gap.topic, gap.found)
        logger.info("gap", topic=gap.topic, partition=partition, expected=gap.expected, found=gap.found, first=first)
        # All of them: what came behind the gap in the same run was not decided either.
        await self._seek(partition)

    def _first_at(self, gap: Gap, partition: int) -> int:
        at = TopicPartition(gap.topic, partition)
        reader = self._log.reader({at: gap.expected})
        try:
            while not (records := reader.poll(timeout_s=1.0)):
                pass
            return records[0].offset
        finally:
            reader.close()

    def _record(self, message: Any) -> Record:
        return Record(
            self._names[message.topic],
            message.partition,
            message.offset,
            round(message.timestamp * 1000),
            message.key,
            message.value,
        )

    async def _pass_time(self) -> None:
        if time.monotonic() - self._began_s > ALONE_S:
            for actor in self._actors.values():
                actor.employ(self._measurers)
        await self._measure_lag()
        await self._housekeep()
        if self._role.ticks is None or time.monotonic() - self._ticked_s < TICK_EVERY_S:
            return
        self._ticked_s = time.monotonic()
        value = encode(Tick())
        waiting = [partition for partition, actor in self._actors.items() if actor.wants_tick()]
        ticks = [Draft(topic=self._role.ticks, partition=partition, value=value) for partition in waiting]
        if ticks:
            await self._in_thread(lambda: self._log.append(ticks))

    async def _housekeep(self) -> None:
        if time.monotonic() - self._housekept_s < HOUSEKEEP_EVERY_S:
            return
        self._housekept_s = time.monotonic()
        for actor in self._actors.values():
            await self._in_thread(actor.housekeep)

    async def _measure_lag(self) -> None:
        if time.monotonic() - self._measured_s < LAG_EVERY_S:
            return
        self._measured_s = time.monotonic()
        for partition, actor in self._actors.items():
            for topic in self._role.inputs:
                at = TopicPartition(topic, partition)
                bounds = await self._in_thread(partial(self._log.bounds, at))
                self._metrics.show_lag(at, max(0, bounds.end - actor.expected(topic)))


class _App(faust.App):
    """Faust without a place on the disk: it would make folders for tables, and no actor has one."""

    def _create_directories(self) -> None:
        pass


def _faust_app(role: Role, options: WorkerOptions) -> faust.App:
    kafka = options.kafka
    return _App(
        f"{kafka.topic_prefix or 'fedlog'}.{role.name}",
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=options.instance,
        broker_session_timeout=SESSION_TIMEOUT_S,
        broker_heartbeat_interval=SESSION_TIMEOUT_S / 4,
        broker_commit_interval=2.0,
        # Until our own seek Faust hands on what lies at the group's offset, all that one fetch held: keep that short.
        broker_max_poll_records=500,
        stream_wait_empty=False,
        stream_buffer_maxsize=512,
        # Without standby replicas Faust assigns round-robin, and a partition's inputs land on different workers.
        table_standby_replicas=1,
    )


def _credentials(kafka: KafkaSettings) -> Any:
    context = kafka.ssl_context()
    if kafka.security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            mechanism=kafka.sasl_mechanism,
            username=kafka.sasl_username,
            password=kafka.sasl_password,
            ssl_context=context,
        )
    return faust.SSLCredentials(context) if context else None


_create_worker_consumer: Callable[..., aiokafka.AIOKafkaConsumer] = AIOKafkaConsumerThread._create_worker_consumer


def _read_committed(thread: AIOKafkaConsumerThread, transport: Any) -> aiokafka.AIOKafkaConsumer:
    """Faust reads uncommitted records in at-least-once mode; another actor's journal has aborted ones."""
    consumer = _create_worker_consumer(thread, transport)
    consumer._isolation_level = "read_committed"
    return consumer


AIOKafkaConsumerThread._create_worker_consumer = _read_committed  # type: ignore[assignment,method-assign]
