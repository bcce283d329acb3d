"""A small world for tests of devices: the log in memory, and a server that does what a test tells it to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from client_agent.conditions import DeviceProfile, FixedProfile
from client_agent.device import Device
from client_agent.identity import open_identity
from client_agent.links.kafka import KafkaLink
from client_agent.setting import DeviceSetting
from schemas.canonical import decode
from schemas.devices import is_checkin_signed
from schemas.events import (
    Answer,
    Declined,
    DeclineReason,
    DeviceCheckedIn,
    Granted,
    LeaseAbandoned,
    Outcome,
    TensorSpec,
    UpdateSubmitted,
)
from schemas.identifiers import BodyRef
from schemas.leases import Lease, read_lease
from schemas.policy import Compression, Policy
from schemas.signing import parse_signed
from schemas.tensors import Floats, from_grid, read_update
from schemas.topics import ANSWERS, CATALOGUE, CHECKINS, UPDATES, answer_partition
from schemas.updates import parse_update
from streams.bodies import BodyReader
from streams.log import Draft, Record, TopicPartition, scan
from streams.memory import MemoryLog
from streams.packing import unpack
from tests.learners import StubTrainer, train_by_one
from tests.places import home_of
from tests.worlds.builders import KEY, TASK, create_task, device_id, granted, lease, lease_id, told
from tests.worlds.builders import policy as build_policy

PHONE = device_id("phone")
# Those of the model that `policy` names, for devices that make it.
DIGITS_TENSORS = (TensorSpec(name="1.weight", shape=(10, 64)), TensorSpec(name="1.bias", shape=(10,)))


class Killed(BaseException):
    """The process ends here."""


class CrashAfter(FixedProfile):
    """A device that dies right after one step."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step = step

    def note_step(self, step: str) -> None:
        if step == self.step:
            raise Killed(step)


def policy(**changes: object) -> Policy:
    """A policy for the digits; `changes` replace whole fields."""
    plain = build_policy(
        model="client_agent.learning.models:softmax_regression",
        selection={"devices_expected": 8, "concurrency": 8, "lease_s": 60.0},
        aggregation={"updates_per_round": 4},
        clipping={"norm": 1.0},
        compression={"codec": "int8"},
        stop={"versions_max": 10},
        training={"batch_size": 4},
    )
    return msgspec.structs.replace(plain, **changes)


class AskingLink(KafkaLink):
    """A link that tells its world which check-in a device made last, sent or not."""

    def __init__(self, world: World, devices: Iterable[str]) -> None:
        super().__init__(world.log, KEY.public_key, devices)
        self._world = world

    def check_in(self, task: str, message: bytes) -> None:
        self._world.note_checkin(message)
        super().check_in(task, message)


@dataclass
class World:
    """One task over a MemoryLog; the server's decisions are the test's calls."""

    policy: Policy = field(default_factory=policy)
    parameters: int = 650
    trainings: int = 0
    asked: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = MemoryLog(CATALOGUE)
        self.place = home_of(TASK)
        self.model = np.zeros(self.parameters, np.float32)
        flat = (TensorSpec(name="flat", shape=(self.parameters,)),)
        tensors = DIGITS_TENSORS if self.parameters == 650 else flat
        self.created = create_task(self.log, self.policy, task=TASK, model=self.model, tensors=tensors)

    def append(self, topic: str, partition: int, value: bytes) -> None:
        self.log.append([Draft(topic=topic, partition=partition, value=value)])

    def records(self, topic: str) -> list[Record]:
        """Every message of a topic, whatever record it came in."""
        return [message for record in scan(self.log, TopicPartition(topic, self.place)) for message in unpack(record)]

    def checkins(self) -> list[DeviceCheckedIn]:
        """Every check-in; each signed with the key that it names."""
        found = []
        for record in self.records(CHECKINS.name):
            message = parse_signed(record.value or b"")
            fact = decode(message.payload, DeviceCheckedIn | LeaseAbandoned)  # type: ignore[arg-type]
            assert is_checkin_signed(message, fact.public_key, deployment=self.created.deployment)
            found.append(fact)
        return [fact for fact in found if isinstance(fact, DeviceCheckedIn)]

    def abandoned(self) -> list[LeaseAbandoned]:
        """Every report that a lease is given up."""
        payloads = [parse_signed(record.value or b"").payload for record in self.records(CHECKINS.name)]
        found = [decode(payload, DeviceCheckedIn | LeaseAbandoned) for payload in payloads]  # type: ignore[arg-type]
        return [fact for fact in found if isinstance(fact, LeaseAbandoned)]

    def submitted(self) -> list[UpdateSubmitted]:
        return [parse_update(record.value or b"").submitted for record in self.records(UPDATES.name)]

    def seen(self, update: UpdateSubmitted) -> Floats:
        """What a server makes of an update before it clips."""
        data = (
            update.inline
            if update.inline is not None
            else BodyReader(self.log, update.body.topic, self.place).fetch(update.body)
        )
        assert isinstance(data, bytes)
        assert hashlib.sha256(data).digest() == update.body.sha256
        grid = read_update(data, self.policy, parameters=self.parameters).grid()
        return from_grid(grid, self.policy.clipping)

    def lease(self, number: int, holder: Device, **changes: object) -> Lease:
        identity = holder.setting.identity
        plain = lease(identity.device, of=self.created, lease=lease_id(number), public_key=identity.public_key)
        return msgspec.structs.replace(plain, **{"deadline_ms": 60_000, **changes})

    def note_checkin(self, message: bytes) -> None:
        """Remember a check-in, to be answered."""
        device = decode(parse_signed(message).payload, DeviceCheckedIn).device
        self.asked[device] = hashlib.sha256(message).digest()

    def grant(self, lease: Lease, model: BodyRef | None = None) -> Granted:
        """The answer to the newest check-in of the lease's device."""
        asked = self.asked.get(lease.device, bytes(32))
        return granted(lease, model or self.created.model, checkin_sha256=asked)

    def decline(self, reason: DeclineReason, retry_after_ms: int, *, device: str = PHONE, **changes: Any) -> Declined:
        """The same without a lease."""
        plain = Declined(
            device=device,
            checkin_sha256=self.asked.get(device, bytes(32)),
            task=TASK,
            reason=reason,
            retry_after_ms=retry_after_ms,
        )
        return msgspec.structs.replace(plain, **changes)

    def outcome(self, lease: Lease, outcome: str, *, record: bytes | None = None) -> Outcome:
        """The answer to the update under `lease`: to `record`, or to the one that the log holds."""
        return Outcome(
            device=lease.device,
            task=TASK,
            update=lease.lease,
            record_sha256=hashlib.sha256(self._find_submission(lease) if record is None else record).digest(),
            outcome=outcome,
        )

    def _find_submission(self, lease: Lease) -> bytes:
        values = [record.value or b"" for record in self.records(UPDATES.name)]
        return next((value for value in values if read_lease(parse_update(value).submitted.sealed) == lease), b"")

    def say(self, answer: Answer) -> None:
        """Put an answer where its device reads."""
        self.append(ANSWERS.name, answer_partition(answer.device, self.log.partitions), told(answer))

    def device(self, folder: Path, *, profile: DeviceProfile | None = None, name: str = "phone") -> Device:
        """A device on `folder`, as after a start or a restart."""
        return Device(AskingLink(self, [device_id(name)]), self.setting(folder, profile=profile, name=name))

    def setting(self, folder: Path, *, profile: DeviceProfile | None = None, name: str = "phone") -> DeviceSetting:
        return DeviceSetting(
            task=TASK,
            identity=open_identity(folder, name, secret=hashlib.sha256(name.encode()).digest()),
            folder=folder,
            trainer=StubTrainer(self.train),
            profile=profile or FixedProfile(),
            synced=False,
        )

    def train(self, policy: Policy, flat: Floats, *, seed: int) -> Floats:
        self.trainings += 1
        return train_by_one(policy, flat, seed=seed)


def large() -> World:
    """A world whose updates are stored in `bodies`."""
    return World(policy(compression=Compression(codec="float32")), parameters=40_000)


def flush(device: Device, at_ms: int = 0) -> None:
    """Store and append what the device wants to send."""
    for stored in device._link.collect_stored():
        device.take_address(stored, at_ms)
    device._link.send()
