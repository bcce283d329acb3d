"""Many scripted devices in one thread, as unreliable as a test wants them: they ask twice, send twice, give up."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from msgspec import UNSET, UnsetType

from ops.operator import deployments
from schemas.canonical import decode
from schemas.certificates import parse_certified
from schemas.events import Answer, Declined, Granted, Outcome, TaskCreated
from schemas.leases import Lease, read_lease
from schemas.policy import Policy, name_stored_codec
from schemas.tensors import encode_update
from schemas.topics import ANSWERS, UPDATES
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft, EventLog, LogError, TopicPartition
from tests.worlds.builders import DEPLOYMENT
from tests.worlds.federation import ScriptedDevice
from tests.worlds.masking.federation import mask_as
from tests.worlds.sealing.federation import seal_as

PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How often a device does what it should not, how long it rests between two leases, and waits for an answer.

    First check-ins are spread over `joins_within_s`, so that devices which rest for as long come evenly ever after.
    `says_so`: whoever gives a lease up reports it.
    `at_once`: what devices say in one pass is appended together, where the fleet must not be what limits the rate.
    """

    again: float = 0.0
    gives_up: float = 0.0
    says_so: bool = False
    inline: float = 0.5
    rest_s: float = 0.3
    patience_s: float = PATIENCE_S
    joins_within_s: float = 0.0
    at_once: bool = False


class Member(ScriptedDevice):
    """A device that remembers what it sent, so that it can send the same bytes again."""

    def __init__(self, name: str, log: EventLog, *, task: str, deployment: bytes, shards: int = 1) -> None:
        super().__init__(name, log, task=task, shards=shards, deployment=deployment)
        self.waiting: list[Draft] | None = None  # where its fleet sends what all say at once
        self.due_s = 0.0
        self.lease: Lease | None = None
        self.sent: bytes | None = None

    def append(self, topic: str, value: bytes) -> int:
        if topic == UPDATES.name:
            self.sent = value
        if self.waiting is None:
            return super().append(topic, value)
        self.waiting.append(Draft(topic=topic, partition=self.partition, value=value))
        return -1  # no offset is known before its fleet sends it


@dataclass(slots=True)
class Fleet:
    """Devices of one task that check in, submit and repeat until they hear; used as a context.

    It plays as many devices of each of `others`, tasks under the same rules. `created`: of a sealed or masked task, as
    which its devices hide what they send. `first`: its first device's number, where another fleet plays those before.
    """

    kafka: KafkaSettings
    task: str
    rules: Policy
    parameters: int
    devices: int
    seed: int = 0
    habits: Habits = Habits()
    bodies: tuple[bytes, ...] = ()  # to submit instead of a small random delta
    others: tuple[str, ...] = ()
    created: TaskCreated | None = None
    first: int = 0
    outcomes: Counter[str] = field(default_factory=Counter, init=False)
    submitted: int = field(default=0, init=False)
    faults: list[BaseException] = field(default_factory=list, init=False)
    _resting: threading.Event = field(default_factory=threading.Event, init=False)
    _ending: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _members: dict[str, Member] = field(default_factory=dict, init=False)
    _waiting: list[Draft] = field(default_factory=list, init=False)
    _random: random.Random = field(default_factory=random.Random, init=False)

    def __enter__(self) -> Self:
        self._random.seed(self.seed)
        self._thread = threading.Thread(target=self._run, name=f"fleet-{self.task}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        assert self._thread is not None
        self._thread.join()

    def rest(self, timeout_s: float = 60.0) -> None:
        """Ask for no more leases, and wait until every submitted update has its outcome."""
        self._resting.set()
        give_up = time.monotonic() + timeout_s
        while any(member.sent is not None for member in self._members.values()) and not self.faults:
            assert time.monotonic() < give_up, "updates without an outcome"
            time.sleep(0.1)
        assert not self.faults, self.faults
        self._ending.set()

    def _run(self) -> None:
        log = KafkaLog(self.kafka)
        try:
            self._live(log)
        except BaseException as error:
            self.faults.append(error)
            raise
        finally:
            log.close()

    def _live(self, log: EventLog) -> None:
        numbers = range(self.first, self.first + self.devices)
        whole = [(task, f"{task}-{number}") for task in (self.task, *self.others) for number in numbers]
        # Whoever founded it: a fleet is told no operator's key.
        deployment, shards = deployments.find(log, None) or DEPLOYMENT, self.rules.shard_count
        members = [Member(name, log, task=task, deployment=deployment, shards=shards) for task, name in whole]
        self._members = {member.id: member for member in members}
        for member in self._members.values():
            member.due_s = time.monotonic() + self._random.random() * self.habits.joins_within_s
            member.waiting = self._waiting if self.habits.at_once else None
        places = [TopicPartition(ANSWERS.name, partition) for partition in range(log.partitions)]
        answers = log.reader({place: bounds.end for place, bounds in log.list_bounds(places).items()})
        with contextlib.closing(answers):
            while not self._ending.is_set():
                for record in answers.poll(0.1):
                    answer: Any = decode(parse_certified(record.value or b"").payload, Answer)  # type: ignore[arg-type]
                    if answer.device in self._members:
                        self._hear(self._members[answer.device], answer)
                for member in self._members.values():
                    if member.due_s <= time.monotonic():
                        self._act(member)
                self._send(log)

    def _send(self, log: EventLog) -> None:
        """Send what the devices said in this pass; what gets lost they say again."""
        drafts = [*self._waiting]
        if not drafts:
            return
        self._waiting.clear()
        with contextlib.suppress(LogError):
            log.append(drafts)

    def _hear(self, member: Member, answer: Answer) -> None:
        match answer:
            case Granted() if member.lease is None and not self._resting.is_set():
                member.lease = read_lease(answer.sealed)
                if self._random.random() < self.habits.gives_up:
                    self._give_up(member, member.lease.lease)
                    member.lease, member.due_s = None, time.monotonic() + self.rules.selection.lease_s
                else:
                    self._submit(member, answer)
            case Declined() if member.lease is None:
                member.due_s = time.monotonic() + min(answer.retry_after_ms / 1000, self.habits.patience_s)
            case Outcome() if member.lease is not None and member.lease.lease == answer.update:
                self.outcomes[answer.outcome] += 1
                member.lease = member.sent = None
                member.due_s = time.monotonic() + self.habits.rest_s

    def _give_up(self, member: Member, lease: str) -> None:
        # A device that cannot say it is one whose lease expires.
        with contextlib.suppress(LogError):
            if self.habits.says_so:
                member.abandon(lease)

    def _submit(self, member: Member, granted: Granted) -> None:
        body = self._random.choice(self.bodies) if self.bodies else self._body()
        body, seals = self._hide(body, granted)
        inline = self._random.random() < self.habits.inline
        self.submitted += 1
        member.due_s = time.monotonic() + self.habits.patience_s
        try:
            member.submit_body(body, codec=name_stored_codec(self.rules), lease=granted, inline=inline, seals=seals)
            if self._random.random() < self.habits.again and member.sent is not None:
                member.append(UPDATES.name, member.sent)
        except LogError:
            # What was never sent is asked for again with the same lease; what may be there is sent again.
            member.lease = member.lease if member.sent is not None else None

    def _hide(self, body: bytes, granted: Granted) -> tuple[bytes, tuple[bytes, ...] | UnsetType]:
        """The body as the task's tier lets it leave a device, and what is sealed to helpers."""
        if self.created is None:
            return body, UNSET
        if not self.rules.is_masked:
            return seal_as(granted, self.created, body), UNSET
        sent = mask_as(granted, self.created, body)
        assert sent.envelope is not None
        return sent.envelope, sent.seals

    def _body(self) -> bytes:
        delta = np.random.default_rng(self._random.getrandbits(32)).normal(size=self.parameters) * 0.1
        return encode_update(delta.astype(np.float32), self.rules)

    def _act(self, member: Member) -> None:
        member.due_s = time.monotonic() + self.habits.patience_s
        with contextlib.suppress(LogError):
            if member.sent is not None:
                member.append(UPDATES.name, member.sent)
            elif not self._resting.is_set():
                member.check_in()
                if self._random.random() < self.habits.again:
                    member.check_in()
