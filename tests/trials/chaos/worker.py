"""A worker with crash points: the very `Host` of production, wrapped from outside, and nothing of it replaced.

The log that it is given tells what an actor asks of it, the decider what it decides, the host what it acknowledges.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import signal
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from actors.deciders import (
    epochs,
    privacy_budget,  # noqa: F401 - slow to import, so once for all processes forked from here
)
from actors.effects.sealing.epoch_keys import EpochKeys
from actors.hosts import faust_app, host, worker
from actors.hosts.assembly import assemble
from actors.hosts.assignment import Carrier
from actors.hosts.host import Host
from actors.hosts.inbox import Delivery
from actors.hosts.worker import Worker, WorkerOptions
from actors.runtime import actor as actor_module
from actors.runtime.actor import Actor
from actors.runtime.role import Role
from actors.wiring import ROLES
from ops.logging_setup import set_up_logging
from schemas.events import (
    DeviceQuarantined,
    DriftEnded,
    DriftFound,
    EpochDestroyed,
    EpochOpened,
    LeaseAbandoned,
    Noticed,
    QuarantineLifted,
    RolloutOrdered,
    TaskCreated,
)
from schemas.sealing.envelopes import EpochSecret
from schemas.topics import ANSWERS, MODELS, PUBLISHED, SNAPSHOTS
from streams.kafka.log import KafkaLog
from streams.kafka.reader import KafkaReader
from streams.kafka.settings import KafkaSettings
from streams.kafka.writer import KafkaWriter
from streams.log import Draft, Record, TopicPartition
from tests.trials.chaos.trap import Trap

PR_SET_PDEATHSIG = 1  # Linux
GRACE_MS = 2_000  # so that keys go while somebody watches
DIGEST_EVERY = 12  # decisions: a cell makes some dozens, and a snapshot belongs to a digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What one process is told: which actor it is, how it runs, where its trap lies, and where it writes its log."""

    actor: str
    options: WorkerOptions
    trap: Trap
    log_file: Path


def work(orders: Orders) -> None:
    """Be a worker until death."""
    prepare(orders.log_file)
    trap, role = orders.trap, ROLES[orders.actor]
    worker.KafkaLog = lambda settings, **_: TrappedLog(settings, role, trap=trap)  # type: ignore[assignment,misc]
    faust_app.Host = lambda *parts, carrier: TrappedHost(*parts, carrier=carrier, trap=trap)  # type: ignore[assignment,misc]
    host.assemble = lambda *place, **parts: trapped(assemble(*place, **parts), trap)
    actor_module.DIGEST_EVERY, epochs.GRACE_MS = DIGEST_EVERY, GRACE_MS
    trap_keys(trap)
    faust_app.run(orders.actor, orders.options)


def prepare(log_file: Path) -> None:
    """Log to a file, and outlive nobody."""
    # Without this in our hands the fork server ends with the driver, and takes its children along: a process that is
    # stopped hears nothing but the SIGKILL of its parent's death.
    with contextlib.suppress(TypeError, AttributeError):
        os.close(forkserver._forkserver._forkserver_alive_fd)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    set_up_logging(as_json=True)


def trapped(actor: Actor[Any], trap: Trap) -> Actor[Any]:
    """The actor, with crash points after each decision and after each run of inputs that decided something."""
    if actor.partition != trap.partition:
        return actor
    decide, handle = actor._decider.decide, actor.handle

    def decided(state: Any, fact: object, time_ms: int) -> Any:
        events = decide(state, fact, time_ms)
        for point in _name_points(fact, events):
            trap.passed(point)
        return events

    def handled(records: Sequence[Record]) -> None:
        seq = actor._journal.seq
        handle(records)
        if actor._journal.seq > seq:
            trap.passed("swap")

    actor._decider = dataclasses.replace(actor._decider, decide=decided)
    actor.handle = handled  # type: ignore[method-assign]
    return actor


def _name_points(fact: object, events: Sequence[object]) -> Iterator[str]:
    """What has just been decided, if anything was."""
    match fact:
        case _ if not events:
            return
        case LeaseAbandoned():
            yield "abandon"
        case EpochOpened() | EpochDestroyed():
            yield "heard"
        case DeviceQuarantined():
            yield "out"
        case QuarantineLifted():
            yield "lifted"
        case Noticed(fact=RolloutOrdered()):
            yield "ordered"
    if any(isinstance(event, DeviceQuarantined) for event in events):
        yield "apart"
    if any(isinstance(event, DriftFound | DriftEnded) for event in events):
        yield "moved"
    yield "decide"


def trap_keys(trap: Trap) -> None:
    """The folder of epoch keys, with a point after a file is made and after one is deleted."""
    make, destroy = EpochKeys.make, EpochKeys.destroy

    def made(keys: EpochKeys, created: TaskCreated, epoch: int) -> EpochSecret:
        secret = make(keys, created, epoch)
        trap.passed("keyed")
        return secret

    def destroyed(keys: EpochKeys, created: TaskCreated, epoch: int) -> None:
        destroy(keys, created, epoch)
        trap.passed("unkeyed")

    EpochKeys.make, EpochKeys.destroy = made, destroyed  # type: ignore[method-assign]


class TrappedHost(Host):
    """A host that passes `ack`."""

    def __init__(self, role: Role, started: Worker, *, carrier: Carrier, trap: Trap) -> None:
        self._trap = trap
        super().__init__(role, started, carrier=carrier)

    async def _decide(self, partition: int, deliveries: Sequence[Delivery]) -> None:
        await super()._decide(partition, deliveries)
        if partition == self._trap.partition:
            self._trap.passed("ack")


class TrappedLog(KafkaLog):
    """A log whose writers, journal readers and plain records pass points."""

    def __init__(self, settings: KafkaSettings, role: Role, *, trap: Trap) -> None:
        super().__init__(settings)
        self._role, self._trap = role, trap

    def writer(self, name: str, *, settles: Collection[TopicPartition] = ()) -> KafkaWriter:
        if name == f"{self._role.name}.{self._trap.partition}":
            # Under a name that nobody else has no broker fences it: what is left is the chain of the journal.
            name = name if self._trap.is_fenced else f"{name}.{os.getpid()}"
            writer = super().writer(name, settles=settles)
            self._trap.passed("fence")
            return trapped_writer(writer, self._trap)
        return super().writer(name, settles=settles)

    def reader(self, positions: Mapping[TopicPartition, int]) -> KafkaReader:
        if {*positions} == {TopicPartition(self._role.journal, self._trap.partition)}:
            return trapped_reader(super().reader(positions), self._trap)
        return super().reader(positions)

    def append(self, drafts: Sequence[Draft]) -> list[int]:
        offsets = super().append(drafts)
        topics = {draft.topic for draft in drafts}
        for topic, point in ((MODELS, "body"), (SNAPSHOTS, "snapshot"), (ANSWERS, "answer")):
            if topic.name in topics and self._is_watched(drafts[0]):
                is_manifest = topic == SNAPSHOTS and b"/" not in (drafts[0].key or b"")
                self._trap.passed("manifest" if is_manifest else point)
        return offsets

    def _is_watched(self, draft: Draft) -> bool:
        """Answers lie in the partitions of their devices, all else in that of the task."""
        return draft.topic == ANSWERS.name or draft.partition == self._trap.partition


def trapped_writer(writer: KafkaWriter, trap: Trap) -> KafkaWriter:
    """The writer, with a point after each step of a commit; its first commit is the claim."""
    begin, put, finish = writer.begin, writer.put, writer.finish
    finished: list[bool] = []

    def begun() -> None:
        begin()
        if finished:
            trap.passed("begin")

    def written(drafts: Sequence[Draft]) -> list[int]:
        offsets = put(drafts)
        is_version = any(draft.topic == PUBLISHED.name for draft in drafts)
        trap.passed("claim" if not finished else "publish" if is_version else "append")
        return offsets

    def ended() -> None:
        if finished:
            trap.soon("end")
        finish()
        if finished:
            trap.passed("commit")
        finished.append(True)

    writer.begin, writer.put, writer.finish = begun, written, ended  # type: ignore[method-assign]
    return writer


def trapped_reader(reader: KafkaReader, trap: Trap) -> KafkaReader:
    """A reader of the actor's own journal, which is how it replays."""
    poll = reader.poll

    def polled(timeout_s: float) -> list[Record]:
        records = poll(timeout_s)
        if records:
            trap.passed("replay")
        return records

    reader.poll = polled  # type: ignore[method-assign]
    return reader
