"""The three actors in memory with effects that trust: no signature, no seal, no body, the deciders' own cost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from actors.deciders.admission import UpdateChecked, refusal
from actors.deciders.aggregator import ReleaseStored
from actors.deciders.aggregator_state import Rounds
from actors.hosts.assembly import assemble
from actors.runtime.actor import Actor
from actors.runtime.effects import Arrival, Effects
from actors.runtime.observer import Observer
from actors.wiring import ROLES
from schemas.canonical import decode, encode
from schemas.devices import ED25519, name_device
from schemas.events import DeviceCheckedIn, LeaseGranted, TaskCreated, TaskEvent
from schemas.journal import Chain, Decision
from schemas.policy import Policy
from schemas.topics import CATALOGUE, CHECKINS, TASKS, UPDATES
from streams.log import Draft, Record, TopicPartition, scan
from streams.memory import MemoryLog
from tests.places import home_of
from tests.worlds.builders import (
    body_ref,
    device_checked_in,
    lease,
    role_key,
    task_created,
    update_checked,
)

TASK = "bench"
PARTITION = home_of(TASK)
KINDS: dict[str, Any] = {TASKS.name: TaskEvent, CHECKINS.name: DeviceCheckedIn, UPDATES.name: UpdateChecked}


def task_of(rules: Policy) -> TaskCreated:
    """The task."""
    return task_created(rules, parameters=4_000, task=TASK)


class TrustingEffects(Effects[Any, Any]):
    """Takes facts as they are written, and stores no release."""

    has_work = True

    def read(self, state: Any, record: Record) -> Arrival:
        """The fact itself."""
        return Arrival(decode(record.value or b"", KINDS[record.topic]))

    def make_inputs(self, state: Any) -> Iterable[object]:
        """A release for every round that awaits one."""
        while isinstance(state, Rounds) and (task := state.tasks.get(TASK)) and (awaited := task.find_awaited()):
            name = f"model {awaited.id}"
            yield ReleaseStored(
                task=TASK, round=awaited.id, sum_sha256=bytes(32), model=body_ref(name, "models"), moments=None
            )


class TrustingWorld:
    """Devices 0, 1, 2 and so on of one task, their facts, and the actors that decide on them."""

    effects: type[Effects[Any, Any]] = TrustingEffects

    def __init__(self, rules: Policy) -> None:
        self.log = MemoryLog(CATALOGUE, clock=lambda: self.now_ms)
        self.now_ms = 1_700_000_000_000
        self.actors = {name: self.opened(name) for name in ROLES}
        for actor in self.actors.values():
            actor._effects = self.effects()
        self.created = task_of(rules)
        self.append(TASKS.name, [self.created])
        self.settle()

    def opened(self, name: str, *, observers: Sequence[Observer] = ()) -> Actor[Any]:
        """A new process, claimed and replayed: all of its journal, whatever snapshots there are."""
        actor = assemble(name, PARTITION, log=self.log, key=role_key(name), observers=observers)
        actor.open(whole=True)
        return actor

    def append(self, topic: str, facts: Iterable[object]) -> None:
        """Facts into the log."""
        self.log.append([Draft(topic=topic, partition=PARTITION, value=encode(fact)) for fact in facts])

    def settle(self, batch: int = 500) -> None:
        """Feed every actor until nobody has anything left to read, so many inputs at a time."""
        while sum(self._feed(actor, batch) for actor in self.actors.values()):
            pass

    def _feed(self, actor: Actor[Any], batch: int) -> int:
        records = [
            record
            for topic in actor.role.inputs
            for record in scan(self.log, TopicPartition(topic, PARTITION), start=actor.find_expected(topic))
        ]
        for start in range(0, len(records), batch):
            actor.handle(records[start : start + batch])
            actor.work()
        return len(records)

    def journal(self, name: str) -> Iterator[Decision]:
        """Every decision of an actor."""
        chain = Chain(ROLES[name].journal, PARTITION)
        for record in scan(self.log, TopicPartition(ROLES[name].journal, PARTITION)):
            if (batch := chain.follow(record.offset, record.value or b"")) is not None:
                yield from batch.decisions

    def train(self, numbers: Sequence[int]) -> None:
        """These devices check in, and submit one update for each lease that they get."""
        state = self.actors["selector"].state
        self.append(CHECKINS.name, [check_in(number, now_ms=self.now_ms) for number in numbers])
        self.settle()
        leases = [*state.tasks[TASK].leases.values()]
        self.append(UPDATES.name, [update(lease.granted, self.created, append_ms=self.now_ms) for lease in leases])
        self.now_ms += 1_000
        self.settle()


def update(granted: LeaseGranted, task: TaskCreated, *, append_ms: int, state: Rounds | None = None) -> UpdateChecked:
    """What the aggregator's effects would make of an honest update."""
    held = lease(
        granted.device,
        of=task,
        lease=granted.lease,
        public_key=granted.public_key,
        version=granted.version,
        deadline_ms=granted.deadline_ms,
    )
    reason = None if state is None else refusal(state, held, append_ms=append_ms)
    return update_checked(under=held, append_ms=append_ms, refusal=reason, clip_scale=60_000)


def check_in(number: int, *, now_ms: int) -> DeviceCheckedIn:
    """A check-in of device `number`, which nothing speaks against."""
    key = ED25519 + hashlib.sha256(number.to_bytes(8)).digest()
    return device_checked_in(name_device(key), task=TASK, public_key=key, sent_ms=now_ms)
