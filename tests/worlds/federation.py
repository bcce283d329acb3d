"""A whole federation in one thread over the in-memory log: the real actors, and devices that a test scripts."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from actors.deciders.decider import digest
from actors.hosts.assembly import assemble
from actors.keys import RoleKey
from actors.runtime.actor import Actor
from actors.runtime.observer import Observer
from actors.wiring import ROLES
from ops.virtual.server import feed
from schemas.canonical import decode, encode
from schemas.certificates import parse_certified
from schemas.devices import tag_public_key
from schemas.events import (
    Answer,
    Granted,
    JournalEvent,
    LeaseAbandoned,
    TaskCreated,
    Tick,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.identifiers import BodyRef
from schemas.journal import Chain, Decision
from schemas.policy import Policy
from schemas.tensors import Floats, encode_update
from schemas.topics import ANSWERS, CATALOGUE, CHECKINS, ROUNDS, UPDATES, answer_partition, body_place, partition_of
from streams.bodies import store
from streams.log import Draft, EventLog, TopicPartition, scan
from streams.memory import MemoryLog
from tests.places import PARTITIONS
from tests.worlds.builders import (
    DEPLOYMENT,
    TASK,
    create_task,
    device_checked_in,
    device_id,
    device_key,
    role_key,
    signed,
    update_submitted,
)


def _read_clock() -> Iterator[int]:
    """The wall clock, later each time it is asked."""
    last_ms = 0
    while True:
        last_ms = max(last_ms + 1, time.time_ns() // 1_000_000)
        yield last_ms


class ScriptedDevice:
    """Checks in, and submits whatever delta it is given."""

    def __init__(
        self,
        name: str,
        log: EventLog,
        *,
        task: str = TASK,
        shards: int = 1,
        sent_ms: Iterator[int] | None = None,
        deployment: bytes = DEPLOYMENT,
    ) -> None:
        self.name, self.id, self.task, self._log = name, device_id(name), task, log
        self.place = TopicPartition(*body_place(task, self.id, shards=shards, partitions=log.partitions))
        self.key = device_key(name)
        self._sent_ms, self._deployment = sent_ms or _read_clock(), deployment
        self.partition = partition_of(task, log.partitions)

    def check_in(self, **changes: Any) -> None:
        """Append a signed check-in."""
        plain = {"public_key": tag_public_key(self.key), "sent_ms": next(self._sent_ms)}
        checkin = device_checked_in(self.id, task=self.task, **{**plain, **changes})
        self.append(CHECKINS.name, signed(checkin, self.key, deployment=self._deployment))

    def answers(self) -> list[Answer]:
        """Everything that was ever answered to this device, oldest first."""
        records = scan(self._log, TopicPartition(ANSWERS.name, answer_partition(self.id, self._log.partitions)))
        answers = [decode(parse_certified(record.value or b"").payload, Answer) for record in records]  # type: ignore[arg-type]
        return [answer for answer in answers if answer.device == self.id]

    def granted(self) -> Granted:
        """The newest lease."""
        return [answer for answer in self.answers() if isinstance(answer, Granted)][-1]

    def submit(self, delta: Floats, rules: Policy, *, lease: Granted | None = None, inline: bool = True) -> int:
        """Append an update under the newest lease; return its offset."""
        body = encode_update(delta, rules)
        return self.submit_body(body, codec=rules.compression.codec, lease=lease, inline=inline)

    def submit_body(
        self,
        body: bytes | BodyRef,
        *,
        codec: str,
        lease: Granted | None = None,
        inline: bool = True,
        seals: tuple[bytes, ...] | UnsetType = UNSET,
    ) -> int:
        """The same for raw bytes, or such as are stored; `seals`: of a masked update, for the helpers."""
        sent = body
        if isinstance(body, bytes) and not inline:
            sent = store(self._log, self.place, data=body, upload_id=self.name, codec=codec)
        held = (lease or self.granted()).sealed
        submitted = msgspec.structs.replace(update_submitted(held, sent, codec=codec, task=self.task), seals=seals)
        return self.append(UPDATES.name, signed(submitted, self.key))

    def abandon(self, lease: str, **changes: Any) -> None:
        """Give a lease up, and say so."""
        abandoned = LeaseAbandoned(
            task=self.task, device=self.id, public_key=tag_public_key(self.key), lease=lease, reason="no_space"
        )
        abandoned = msgspec.structs.replace(abandoned, **changes)
        self.append(CHECKINS.name, signed(abandoned, self.key, deployment=self._deployment))

    def append(self, topic: str, value: bytes) -> int:
        """Append any bytes to the task's partition."""
        [offset] = self._log.append([Draft(topic=topic, partition=self.partition, value=value)])
        return offset


class Federation:
    """The three actors on one partition, driven by `settle`."""

    def __init__(
        self,
        rules: Policy,
        *,
        parameters: int = 4,
        task: str = TASK,
        partitions: int = PARTITIONS,
        model: Floats | None = None,
        epoch_keys: Path | None = None,
    ) -> None:
        self.epoch_keys = epoch_keys
        self.now_ms = 1_700_000_000_000
        self.log = MemoryLog(CATALOGUE, clock=lambda: self.now_ms, partitions=partitions)
        self.rules, self.parameters, self.task = rules, parameters, task
        # The clock of every device: that of the log, and later with each check-in.
        self.sent_ms = (self.now_ms + number for number in itertools.count())
        self.partition = partition_of(task, partitions)
        self.actors: dict[str, Actor[Any]] = {}
        for name in ROLES:
            self.start(name)
        self.create(np.zeros(parameters) if model is None else model)
        self.settle()

    def create(self, model: Floats) -> None:
        """Create the task, which starts from this model."""
        create_task(self.log, self.rules, task=self.task, model=model)

    def start(self, name: str) -> Actor[Any]:
        """Open the actor, as a new process would after the one before died."""
        actor = assemble(name, self.partition, log=self.log, key=self.key(name))
        actor.open()
        actor.work()
        self.actors[name] = actor
        return actor

    def key(self, name: str) -> RoleKey:
        """The key of a role, which knows where those of sealed tasks lie."""
        folder = UNSET if self.epoch_keys is None else str(self.epoch_keys)
        return msgspec.structs.replace(role_key(name), epoch_keys=folder)

    def append(self, topic: str, value: bytes) -> None:
        """Append to the task's partition."""
        self.log.append([Draft(topic=topic, partition=self.partition, value=value)])

    def device(self, name: str) -> ScriptedDevice:
        """A device of this task."""
        shards = self.rules.shard_count
        return ScriptedDevice(name, self.log, task=self.task, shards=shards, sent_ms=self.sent_ms)

    def pass_ms(self, ms: int) -> None:
        """Let log time pass, as the hosts' ticks would."""
        self.now_ms += ms
        for topic in (CHECKINS.name, UPDATES.name):
            self.append(topic, encode(Tick()))
        self.settle()

    def settle(self) -> None:
        """Feed every actor until nobody has anything left to read."""
        while sum(self.feed(name) for name in self.actors):
            pass

    def feed(self, name: str, *, most: int = 1_000) -> int:
        """Give one actor the inputs that it has not read yet; return how many there were."""
        return feed(self.actors[name], self.log, most=most)

    @property
    def created(self) -> TaskCreated:
        """The task, as the aggregator knows it."""
        created: TaskCreated = self.actors["aggregator"].state.tasks[self.task].created
        return created

    def check_in(self, *names: str) -> list[Granted]:
        """Devices ask, and get their leases."""
        for name in names:
            self.device(name).check_in()
        self.settle()
        return [self.device(name).granted() for name in names]

    def submit(self, name: str, delta: object, *, inline: bool = True) -> int:
        """A device submits under its newest lease; return the offset."""
        return self.device(name).submit(np.asarray(delta, np.float32), self.rules, inline=inline)

    def round_of(self, deltas: Mapping[str, object], *, inline: bool = True) -> None:
        """Each device checks in, gets a lease and submits."""
        self.check_in(*deltas)
        for name, delta in deltas.items():
            self.submit(name, delta, inline=inline)
        self.settle()

    def journal(self, topic: str) -> list[Decision]:
        """Every decision of a journal, in order."""
        chain = Chain(topic, self.partition, role_key("aggregator").trust())
        batches = [
            chain.follow(record.offset, record.value or b"")
            for record in scan(self.log, TopicPartition(topic, self.partition))
        ]
        return [decision for batch in batches if batch is not None for decision in batch.decisions]

    def events(self, topic: str, *kinds: type[JournalEvent]) -> list[Any]:
        """Events of a journal, of these kinds or all."""
        all_events = [event for decision in self.journal(topic) for event in decision.events]
        return [event for event in all_events if not kinds or isinstance(event, kinds)]


def find_refusals(world: Federation) -> list[str]:
    """The reasons for which updates are in no round, in the journal's order."""
    refused = world.events(ROUNDS.name, UpdateRefused, UpdatesDeclined)
    return [
        reason
        for event in refused
        for reason in ([event.reason] if isinstance(event, UpdateRefused) else Counter(event.counts).elements())
    ]


def open_actor(world: Federation, name: str, *, whole: bool = False, observers: Sequence[Observer] = ()) -> Actor[Any]:
    """What another process would open now; the federation goes on with its own actor."""
    actor = assemble(name, world.partition, log=world.log, key=role_key(name), observers=observers)
    actor.open(whole=whole)
    return actor


def describe_opening(actor: Actor[Any]) -> tuple[object, ...]:
    """All that an actor knows once it is open: two openings of one journal are alike in it."""
    inputs = actor._inputs
    return (
        digest(actor.state),
        (inputs.time_ms, inputs.written_ms),
        inputs.position.offsets,
        {topic: journal.position for topic, journal in inputs.journals.items()},
        actor._digests.undigested,
        actor._journal.seq,
    )


@contextmanager
def at_work(world: Federation) -> Iterator[None]:
    """The actors decide while somebody waits for them, as workers would."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(0.01):
            world.settle()

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        is_over.set()
        worker.join()
        world.settle()
