"""What the operator wrote in `tasks`, and which of it counts: what carries the operator's signature.

A server speaks for the operator within the scope of its certificate: see `SCOPES`.

Of the creations of one name the first counts, and so does the first name of a deployment. Pure folds over records,
for readers of any log: actors, devices, commands, audit. `operator` is the operator's public key, 32 bytes;
None, for a person who has none and only looks, accepts what nobody vouches for. `deployment` is the name of the log's:
what the operator said of another is nothing here, wherever it stands; None where the log has no name yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Signer, Trust, parse_certified
from schemas.events import (
    VECTOR_ROLES,
    DeploymentFounded,
    QuarantineLifted,
    RolloutOrdered,
    TaskClosed,
    TaskCreated,
    TaskEvent,
    TaskPaused,
    TaskResumed,
    TaskSucceeded,
    count_elements,
    list_statistics,
)
from schemas.identifiers import TaskId
from schemas.policy import BOUNDS, PolicyError, check_policy
from schemas.policy.measuring import NEWEST
from schemas.policy.metrics import list_noised_reports
from schemas.signing import is_signed_by, parse_signed, sign
from schemas.topics import MODELS, partition_of, population_of

# A record of `tasks` without its signature has to fit into one journal record, and no reader takes a larger one.
Written = DeploymentFounded | TaskEvent
# What a server may say by its role; the one that may create tasks is another, so that the operator grants it knowingly.
SERVE, STEWARD = "serve", "steward"
_GUIDES = (TaskPaused, TaskResumed, TaskClosed, QuarantineLifted)
SCOPES: Mapping[str, tuple[type[TaskEvent], ...]] = {
    SERVE: _GUIDES,
    STEWARD: (*_GUIDES, TaskCreated, TaskSucceeded, RolloutOrdered),
}


class Entry(Protocol):
    """A record of a log, as far as it is asked here: its bytes, and when it was appended, milliseconds."""

    @property
    def value(self) -> bytes | None: ...

    @property
    def time_ms(self) -> int: ...


def sign_task_event(event: Written, operator: Ed25519PrivateKey) -> bytes:
    """The record's value."""
    return sign(encode(event), operator)


def certify_task_event(event: TaskEvent, signer: Signer) -> bytes:
    """The value of a record that a server writes under its certificate."""
    return signer.certify(encode(event))


def parse_task_event(entry: Entry, operator: bytes | None) -> Written | None:
    """The event in a record of `tasks`; None for what neither the operator nor a server within its scope signed."""
    try:
        try:
            signed = parse_signed(entry.value or b"")
        except MalformedError:
            return _parse_served(entry, operator)
        # The signature first: of what a stranger wrote nothing is decoded.
        if operator is not None and not is_signed_by(signed, operator):
            return None
        return decode(signed.payload, Written)  # type: ignore[arg-type]
    except MalformedError:
        return None


def _parse_served(entry: Entry, operator: bytes | None) -> TaskEvent | None:
    message = parse_certified(entry.value or b"")
    if operator is None:
        return decode(message.payload, TaskEvent)  # type: ignore[arg-type]
    trust = Trust(operator)
    certificate = trust.find_certificate(message.certificate)
    if certificate is None or not trust.vouches(message, certificate.role, at_ms=entry.time_ms):
        return None
    event: TaskEvent = decode(message.payload, TaskEvent)  # type: ignore[arg-type]
    # A key of staging says nothing here, nor may any key say more than it was made for.
    is_here = event.deployment == certificate.deployment
    return event if is_here and type(event) in SCOPES.get(certificate.role, ()) else None


def parse_creation(entry: Entry, operator: bytes | None) -> TaskCreated | None:
    """The same for a creation; None for any other event."""
    event = parse_task_event(entry, operator)
    return event if isinstance(event, TaskCreated) else None


def collect_creations(
    entries: Iterable[Entry], operator: bytes | None, *, partitions: int, deployment: bytes | None = None
) -> dict[TaskId, TaskCreated]:
    """The creation of each task that counts, in the order of the log, on a cluster with so many partitions."""
    found: dict[TaskId, TaskCreated] = {}
    for created in _parse_creations(entries, operator, partitions=partitions, deployment=deployment):
        # Two operators may create one name at once: the log's order decides, for every reader alike.
        found.setdefault(created.task, created)
    return found


def find_creation(
    entries: Iterable[Entry],
    task: TaskId,
    *,
    operator: bytes | None,
    partitions: int,
    deployment: bytes | None = None,
) -> TaskCreated | None:
    """The creation of `task` that counts; reads no further than that."""
    creations = _parse_creations(entries, operator, partitions=partitions, deployment=deployment)
    return next((created for created in creations if created.task == task), None)


def find_deployment(entries: Iterable[Entry], operator: bytes | None) -> bytes | None:
    """The name of the deployment, from the records of partition 0; None where none was founded."""
    events = (parse_task_event(entry, operator) for entry in entries)
    return next((event.deployment for event in events if isinstance(event, DeploymentFounded)), None)


def find_misplacement(created: TaskCreated, partition: int, *, partitions: int) -> Iterator[str]:
    """Why a creation that stands in `partition` is refused on a cluster with so many partitions."""
    # Devices look for the task where its name says, on the cluster that they see.
    if created.partitions != partitions:
        yield f"made for {created.partitions} partitions, and there are {partitions}"
    elif partition != partition_of(created.task, partitions):
        yield f"in partition {partition}, where no task of this name lives"


def find_successor(
    entries: Iterable[Entry], task: TaskId, *, operator: bytes | None, deployment: bytes | None = None
) -> TaskId | None:
    """The task that carries on from `task`, from the records of its partition: the first that claimed it."""
    events = (parse_task_event(entry, operator) for entry in entries)
    claims = (event for event in events if isinstance(event, TaskSucceeded) and event.task == task)
    return next((claim.successor for claim in claims if deployment in (None, claim.deployment)), None)


def find_faults(created: TaskCreated) -> Iterator[str]:
    """What is wrong with a creation, judged by its own policy: an actor that finds anything refuses the task."""
    if created.policy.shard_count > created.partitions:
        yield f"{created.policy.shard_count} shards, and there are {created.partitions} partitions"
    if created.policy_sha256 != hashlib.sha256(encode(created.policy)).digest():
        yield "the policy is not the one of policy_sha256"
    try:
        weights = check_policy(created.policy).weights()
    except PolicyError as error:
        # Without a policy there is nothing to compare the rest with.
        yield f"a policy that cannot be used: {error}"
        return
    # Other weights than the policy's would make its noise too small for them.
    if created.weights != weights:
        yield "the weights are not the policy's"
    if created.parameters != count_elements(created.tensors, *VECTOR_ROLES):
        yield "parameters is not the size of the tensors"
    reported = [spec.shape for spec in created.tensors if spec.role == "reported"]
    asked = len(list_noised_reports(created.policy))
    if reported != ([(asked,)] if asked else []):
        yield "the vector has not the place for what the policy has reported"
    yield from _find_body_faults(created)
    yield from _find_reference_faults(created)
    yield from _find_watched_faults(created)
    yield from _find_ancestry_faults(created)


def _find_body_faults(created: TaskCreated) -> Iterator[str]:
    """What is wrong with the bodies that a creation names: each is one of the task's own models."""
    place = (MODELS.name, partition_of(created.task, created.partitions))
    subject = created.subject.model if created.subject else None
    reference = created.reference.model if created.reference else None
    named = {"the model": created.model, "what is frozen": created.frozen, "the subject": subject}
    for what, body in {**named, "the reference": reference}.items():
        if body is not None and (body.topic, body.partition) != place:
            yield f"{what} is in {body}, not in the task's partition of {MODELS.name}"
    tensors = created.subject.tensors if created.subject else created.tensors
    if (count_elements(tensors, "frozen") > 0) != (created.frozen is not None):
        yield "there are frozen tensors without a body, or a body without frozen tensors"
    yield from _find_measure_faults(created)


def _find_measure_faults(created: TaskCreated) -> Iterator[str]:
    """What is wrong with a question: its vector is the policy's statistics, its subject the policy's version."""
    measure, subject = created.policy.measure, created.subject
    if measure is not None and created.tensors != list_statistics(measure):
        yield "the tensors are not the statistics that the policy asks for"
    of, version = (measure.of, measure.version) if measure else ("", NEWEST)
    if (subject.task if subject else "") != of or (subject and version not in (NEWEST, subject.version)):
        yield "what is measured is not what the policy says"


def _find_reference_faults(created: TaskCreated) -> Iterator[str]:
    """Whether what answers are compared with is the other task's that the policy names, or none where it names none."""
    # Whoever creates a task could else have it compared with answers that nobody gave.
    asked, reference = created.policy.drift, created.reference
    of, version = (asked.of, asked.version) if asked else ("", NEWEST)
    is_other = reference and version not in (NEWEST, reference.version)
    if (reference.task if reference else "") != of or is_other:
        yield "what answers are compared with is not what the policy says"
    if of == created.task:
        yield "its answers are to be compared with a copy of its own; leave drift.of out"


def _find_watched_faults(created: TaskCreated) -> Iterator[str]:
    """Whether the rollout hears of each task whose drift its gates look at: of those of one population it does."""
    for gate in created.policy.rollout.drift_gates if created.policy.rollout else ():
        if gate.drift_of and population_of(gate.drift_of) != population_of(created.task):
            yield f"drift of {gate.drift_of} is to hold its rollout back, and it is in another population"


def _find_ancestry_faults(created: TaskCreated) -> Iterator[str]:
    """What is wrong with what was spent before, as far as the creation tells it alone."""
    low, high = BOUNDS["privacy.noise_multiplier"]
    if not all(low <= spent.noise_multiplier <= high for spent in created.spent_before):
        yield "something was spent before under no noise that a policy can have"
    ancestors = [spent.task for spent in created.spent_before]
    # A private task without a private parent would hide what was released of it without noise.
    expected = created.parent if created.policy.privacy is not None else None
    if ancestors[-1:] != ([] if expected is None else [expected]):
        yield f"what was spent before does not end with its parent {expected!r}"


def _parse_creations(
    entries: Iterable[Entry], operator: bytes | None, *, partitions: int, deployment: bytes | None
) -> Iterator[TaskCreated]:
    creations = (created for entry in entries if (created := parse_creation(entry, operator)) is not None)
    # With another number each reader would look for the task in another partition.
    here = (created for created in creations if created.partitions == partitions)
    # A copy of staging's creation, placed before production's of the same name, would be the first of it.
    return (created for created in here if deployment in (None, created.deployment))
