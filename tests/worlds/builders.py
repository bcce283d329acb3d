"""One builder for each thing that tests write into a log or hand to a decider.

A builder is named like what it builds (`update_admitted` builds an UpdateAdmitted) and gives an unremarkable one of the
task `digits`; `changes` replace any field. Worlds, unit tests, trials and benches all build with these.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, TypeVar

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.deciders.admission import UpdateChecked
from actors.deciders.aggregator import mechanism_of
from actors.keys import OperatorKey, RoleKey
from client_agent.learning.allow_list import AllowList
from ops.audit.replay import Anchor
from schemas.canonical import encode
from schemas.certificates import Trust
from schemas.creations import Written, sign_task_event
from schemas.devices import name_device, sign_checkin, tag_public_key
from schemas.events import (
    Answer,
    DeviceCheckedIn,
    Granted,
    JournalEvent,
    LeaseAbandoned,
    LeaseGranted,
    Mechanism,
    ModelPublished,
    Outcome,
    RoundProposed,
    TaskClosed,
    TaskCreated,
    TaskPaused,
    TaskResumed,
    TensorSpec,
    UpdateAdmitted,
    UpdateSubmitted,
    VersionEvaluated,
    list_statistics,
)
from schemas.identifiers import BodyRef
from schemas.journal import Batch, Decision, JournalPosition, Position, WriterClaimed
from schemas.leases import Lease, sign_lease
from schemas.policy import WEIGHT_ONE, Policy, Spending
from schemas.signing import sign
from schemas.tensors import Floats, pack
from schemas.topics import MODELS, TASKS, partition_of
from schemas.updates import address_inline
from streams.bodies import store
from streams.log import Draft, EventLog, TopicPartition
from tests.places import PARTITIONS

KEY = OperatorKey(bytes(range(32)))
DEPLOYMENT = bytes(range(16))
NOISE = KEY.derive_noise(DEPLOYMENT)
FOR_EVER_MS = 1 << 62
TASK, MODEL = "digits", "nowhere:model"
ANCHOR = Anchor(operator=KEY.public_key, noise=KEY.find_noise)
# Devices with a stub for training may name MODEL, and nobody ever imports it.
ALLOWED = AllowList(names=frozenset({MODEL}))
SCALE_ONE = 1 << 16
S = TypeVar("S", bound=msgspec.Struct)


@cache
def role_key(role: str, *, key: OperatorKey = KEY, deployment: bytes = DEPLOYMENT, **issued: int) -> RoleKey:
    """What the operator hands out to a role."""
    return key.issue(role, deployment, **{"until_ms": FOR_EVER_MS, **issued})


def trust(role: str = "aggregator") -> Trust:
    """What a role believes."""
    return role_key(role).trust()


def told(answer: Answer, **changes: Any) -> bytes:
    """The record of an answer, signed by the role that gives such answers."""
    role = "aggregator" if isinstance(answer, Outcome) else "selector"
    return role_key(role, **changes).signer.certify(encode(answer))


def written(event: Written, key: OperatorKey = KEY) -> bytes:
    """The record of `tasks` that the operator writes."""
    return sign_task_event(event, key.signing)


def task_paused(number: int = 1, *, task: str = TASK) -> TaskPaused:
    """The first change of a task."""
    return TaskPaused(task=task, deployment=DEPLOYMENT, number=number)


def task_resumed(number: int = 2, *, task: str = TASK) -> TaskResumed:
    """The second."""
    return TaskResumed(task=task, deployment=DEPLOYMENT, number=number)


def task_closed(*, task: str = TASK) -> TaskClosed:
    """The end of a task."""
    return TaskClosed(task=task, deployment=DEPLOYMENT)


def scored(evaluated: VersionEvaluated, **changes: Any) -> bytes:
    """The record of `evaluations` that the evaluator writes."""
    return role_key("evaluator", **changes).signer.certify(encode(evaluated))


# --- tasks ----------------------------------------------------------------------------------------------------------


def policy(**sections: Any) -> Policy:
    """A small task (K = 3, 10 devices, sgd, no privacy); each section given replaces fields of its own."""
    plain: dict[str, Any] = {
        "model": MODEL,
        "selection": {"devices_expected": 10, "concurrency": 10},
        "aggregation": {"updates_per_round": 3},
        "clipping": {"norm": 8.0},
        "compression": {"codec": "float32"},
        # With privacy a hundred versions would need more participations than ten devices have.
        "stop": {"versions_max": 9 if sections.get("privacy") else 100},
    }
    for name, given in sections.items():
        plain[name] = {**plain.get(name, {}), **given} if isinstance(given, dict) else given
    return msgspec.convert(plain, Policy)


def private_policy(noise_multiplier: float = 1.0, rho_max: float = 9.0, **sections: Any) -> Policy:
    """The same with privacy; a device may take part floor(2 z^2 rho_max) times."""
    privacy = {"noise_multiplier": noise_multiplier, "rho_max": rho_max}
    return policy(**{"privacy": privacy, **sections})


def task_created(rules: Policy | None = None, *, parameters: int = 4, **changes: Any) -> TaskCreated:
    """A task with one flat tensor, or with its policy's statistics; and behind it what is reported under privacy."""
    told = len(rules.evaluation.report) if (rules := rules or policy()).privacy else 0
    flat = TensorSpec(name="flat", shape=(parameters - told,))
    tensors = (flat, TensorSpec(name="reported", shape=(told,), role="reported"))[: 1 + bool(told)]
    plain = TaskCreated(
        task=TASK,
        partitions=PARTITIONS,
        deployment=DEPLOYMENT,
        policy=rules,
        policy_sha256=hashlib.sha256(encode(rules)).digest(),
        tensors=list_statistics(rules.measure) if rules.measure else tensors,
        parameters=parameters,
        weights=rules.weights(),
        model=body_ref("initial", topic="models"),
        frozen=None,
        subject=None,
        sources={},
        parent=None,
        spent_before=(),
    )
    return _changed(plain, changes)


def spending(participations: int = 1, noise_multiplier: float = 1.0, *, task: str = "before") -> Spending:
    """What the busiest device of an earlier task has spent."""
    return Spending(task=task, participations=participations, noise_multiplier=noise_multiplier)


def create_task(
    log: EventLog, rules: Policy, *, task: str, model: Floats, key: OperatorKey = KEY, **changes: Any
) -> TaskCreated:
    """Store a task's first model and append its TaskCreated, as `fedlog task create` does."""
    place = TopicPartition(MODELS.name, partition_of(task, log.partitions))
    ref = store(log, place, data=pack(model.astype(np.float32)), upload_id=f"{task}/initial", codec="float32")
    created = task_created(rules, task=task, model=ref, parameters=model.size, partitions=log.partitions, **changes)
    log.append([Draft(topic=TASKS.name, partition=place.partition, value=written(created, key))])
    return created


# --- devices --------------------------------------------------------------------------------------------------------


def device_key(device: str) -> Ed25519PrivateKey:
    """The key that a device of this name has in every test."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(device.encode()).digest())


def public_key(device: str) -> bytes:
    """The public half of it, as a device shows it."""
    return tag_public_key(device_key(device))


def device_id(device: str) -> str:
    """The id of the device of this name, where effects check that it follows from the key."""
    return name_device(public_key(device))


def device_ids(names: str) -> list[str]:
    """The ids of devices that have a letter each for a name."""
    return [device_id(name) for name in names]


def device_checked_in(device: str = "a", **changes: Any) -> DeviceCheckedIn:
    """A check-in that no condition speaks against, not signed."""
    plain = DeviceCheckedIn(
        task=TASK,
        device=device,
        public_key=changes.pop("public_key", None) or public_key(device),
        sent_ms=1,
        battery_percent=90,
        charging=True,
        unmetered=True,
        idle=True,
        samples=7,
        cohort="",
    )
    return _changed(plain, changes)


def lease(device: str = "a", *, of: TaskCreated | None = None, **changes: Any) -> Lease:
    """A lease on version 0 of a task, without a seal; its number follows from device and task."""
    created = of or task_created()
    plain = Lease(
        deployment=created.deployment,
        lease=lease_id(f"{created.task}/{device}"),
        task=created.task,
        device=device,
        public_key=changes.pop("public_key", None) or public_key(device),
        version=0,
        model_sha256=created.model.sha256,
        deadline_ms=600_000,
        policy_sha256=created.policy_sha256,
    )
    return _changed(plain, changes)


def lease_id(name: str | int) -> str:
    """An id that follows from a name."""
    return f"{name:032x}" if isinstance(name, int) else hashlib.sha256(name.encode()).hexdigest()[:32]


def granted(
    under: Lease, model: BodyRef | None = None, *, key: OperatorKey = KEY, checkin_sha256: bytes = bytes(32)
) -> Granted:
    """The answer that brings a device its lease, signed by the selector of this operator."""
    return Granted(
        device=under.device,
        checkin_sha256=checkin_sha256,
        sealed=sign_lease(under, role_key("selector", key=key).signer),
        model=model or body_ref("initial", "models"),
    )


def update_submitted(
    sealed: bytes, body: bytes | BodyRef, *, codec: str = "float32", task: str = TASK, samples: int = 7
) -> UpdateSubmitted:
    """An update whose body comes inline, or stands where a ref says; not signed."""
    inline = None if isinstance(body, BodyRef) else body
    ref = body if isinstance(body, BodyRef) else address_inline(body, codec=codec)
    return UpdateSubmitted(sealed=sealed, samples=samples, metrics=(), body=ref, inline=inline)


def signed(fact: msgspec.Struct, device: str | Ed25519PrivateKey, *, deployment: bytes = DEPLOYMENT) -> bytes:
    """The record that a device sends."""
    key = device_key(device) if isinstance(device, str) else device
    is_checkin = isinstance(fact, DeviceCheckedIn | LeaseAbandoned)
    return sign_checkin(fact, key, deployment=deployment) if is_checkin else sign(encode(fact), key)


# --- bodies ---------------------------------------------------------------------------------------------------------


def body_ref(name: str = "body", topic: str = "bodies", **changes: Any) -> BodyRef:
    """The address of a body that nobody reads; equal names give equal addresses."""
    digest = hashlib.sha256(name.encode()).digest()
    plain = BodyRef(topic=topic, partition=0, offsets=(7,), sha256=digest, size=9, codec="float32")
    return _changed(plain, changes)


# --- what deciders read and write -----------------------------------------------------------------------------------


def update_checked(device: str = "a", *, under: Lease | None = None, **changes: Any) -> UpdateChecked:
    """An honest update as its effects hand it to the aggregator, appended at 1,000 ms."""
    held = under or lease(device)
    plain: dict[str, Any] = {
        "lease": held,
        "record_sha256": bytes(32),
        "body": body_ref(held.lease),
        "samples": 7,
        "metrics": (),
        "append_ms": 1_000,
        "refusal": None,
        "clip_scale": SCALE_ONE,
        "fault": None,
        "salt": bytes(16),
    }
    return UpdateChecked(**{**plain, **changes})


def lease_granted(device: str = "a", **changes: Any) -> LeaseGranted:
    """A lease on version 0 in the selector's journal."""
    plain = LeaseGranted(
        task=TASK,
        lease=lease_id(f"{TASK}/{device}"),
        device=device,
        public_key=changes.pop("public_key", None) or public_key(device),
        sent_ms=0,
        version=0,
        deadline_ms=600_000,
        cohort="",
    )
    return _changed(plain, changes)


def update_admitted(device: str = "a", **changes: Any) -> UpdateAdmitted:
    """A fresh update of full weight in round 0."""
    plain = UpdateAdmitted(
        task=TASK,
        round=0,
        update=lease_id(f"{TASK}/{device}"),
        device=device,
        body=body_ref(f"{TASK}/{device}"),
        version=0,
        staleness=0,
        weight=WEIGHT_ONE,
        clip_scale=SCALE_ONE,
        zeroed=None,
        metrics=(),
        samples=7,
        salt=bytes(16),
        deadline_ms=600_000,
    )
    return _changed(plain, changes)


def mechanism(rules: Policy, *, key: OperatorKey = KEY) -> Mechanism | None:
    """The noise that the policy promises; None without privacy."""
    return mechanism_of(task_created(rules), key.derive_noise(DEPLOYMENT).id)


def round_proposed(round_id: int = 0, **changes: Any) -> RoundProposed:
    """A full round of three, without privacy."""
    plain = RoundProposed(
        task=TASK,
        round=round_id,
        members_root=bytes(32),
        members=3,
        weight_sum=3 * WEIGHT_ONE,
        metrics=None,
        mechanism=None,
        participations_max=1,
    )
    return _changed(plain, changes)


def model_published(version: int = 0, **changes: Any) -> ModelPublished:
    """A version; version v comes of round v - 1."""
    plain = ModelPublished(
        task=TASK,
        version=version,
        round=version - 1 if version else None,
        model=body_ref(f"model {version}", "models"),
        moments=None,
        members_root=bytes(32) if version else None,
        members=3 if version else 0,
    )
    return _changed(plain, changes)


# --- journals -------------------------------------------------------------------------------------------------------


def writer_claimed(
    actor: str = "aggregator", partition: int = 0, *, after: int = 0, nonce: bytes = bytes(32)
) -> WriterClaimed:
    """A writer's first record, of a journal that ended at `after`."""
    return WriterClaimed(actor=actor, partition=partition, after=after, nonce=nonce)


def decision(*events: JournalEvent, topic: str = "updates", offset: int = 0, time_ms: int = 1_000) -> Decision:
    """What one input caused."""
    return Decision(topic=topic, offset=offset, time_ms=time_ms, events=events)


def batch(at: JournalPosition, *decisions: Decision, **changes: Any) -> Batch:
    """The batch that follows `at`; its position is past its decisions, its time that of the last."""
    offsets = {each.topic: each.offset + 1 for each in decisions}
    plain = Batch(
        seq=at.seq + 1,
        claim=max(0, at.claim),
        prev=at.head,
        nonce=bytes(16),
        time_ms=max((each.time_ms for each in decisions), default=0),
        position=Position(offsets=offsets),
        decisions=decisions,
    )
    return _changed(plain, changes)


def _changed(plain: S, changes: dict[str, Any]) -> S:
    return msgspec.structs.replace(plain, **changes)
