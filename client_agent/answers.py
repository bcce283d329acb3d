"""What a device believes of what the log says: which answers it obeys, and whether it trains a task as it stands there.

Only answers to what it asked itself, for itself, its task and its key; only a task within its bounds. `Device` asks
here before it acts.
"""

from __future__ import annotations

import hashlib
from collections import deque

from msgspec import UNSET

from client_agent.identity import Identity
from schemas.canonical import MalformedError
from schemas.certificates import Certified, Trust, name_speaker
from schemas.creations import find_faults
from schemas.events import VECTOR_ROLES, Answer, Granted, TaskCreated, count_elements
from schemas.identifiers import TaskId
from schemas.leases import Lease, is_overlong, read_lease
from schemas.masking.statements import find_cosigning_fault, is_joined, open_mask_keys
from schemas.sealing.epochs import EpochKey, open_statement, read_statement

# A device repeats a check-in that got no answer, and whichever answer comes first is good.
OPEN_MAX = 16
_UNKNOWN = "not judged yet"
_judged: deque[tuple[TaskCreated, str | None]] = deque(maxlen=16)


class OpenCheckins:
    """The check-ins of this process that have no answer yet; a restarted device simply checks in again."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def note(self, message: bytes) -> None:
        """The check-in `message`, as it stands in the log, was handed over."""
        self._digests = [*self._digests, hashlib.sha256(message).digest()][-OPEN_MAX:]

    def take(self, checkin_sha256: bytes) -> bool:
        """Whether this is the answer to one of them, which then has its answer."""
        if checkin_sha256 not in self._digests:
            return False
        self._digests.remove(checkin_sha256)
        return True


def is_believed(answer: Answer, message: Certified, *, trust: Trust, at_ms: int) -> bool:
    """Whether the role that answers so has signed it, and an aggregator the key that a lease comes with.

    The keys of helpers are checked where the task is known, whose policy names them (`find_mask_keys`).
    """
    if not trust.vouches(message, name_speaker(answer), at_ms=at_ms):
        return False
    # A selector that is taken over would otherwise have updates sealed to a key of its own.
    statement = answer.epoch_key if isinstance(answer, Granted) else UNSET
    if statement is UNSET or is_joined(statement):
        return True
    return open_statement(statement, trust, at_ms=at_ms) is not None


def find_lease(granted: Granted, identity: Identity, *, task: TaskId) -> Lease | None:
    """The lease in an answer; None where it is another device's, task's or key's, or the answer names another model."""
    try:
        lease = read_lease(granted.sealed)
    except MalformedError:
        return None
    is_own = (lease.device, lease.task, lease.public_key) == (identity.device, task, identity.public_key)
    return lease if is_own and lease.model_sha256 == granted.model.sha256 else None


def find_epoch_key(granted: Granted, lease: Lease) -> EpochKey | None:
    """The key that a lease names, out of its answer; None where it names none, or the answer brings another."""
    if granted.epoch_key is UNSET:
        return None
    try:
        key = read_statement(granted.epoch_key)
    except MalformedError:
        return None
    is_named = (key.deployment, key.task, key.epoch) == (lease.deployment, lease.task, lease.epoch)
    return key if is_named else None


def find_mask_keys(granted: Granted, lease: Lease, *, created: TaskCreated) -> tuple[bytes, ...] | None:
    """The key of each helper of a masked task for the epoch that a lease names; None where one did not say so."""
    if granted.epoch_key is UNSET or lease.epoch is UNSET:
        return None
    return open_mask_keys(granted.epoch_key, created, epoch=lease.epoch)


def find_seal_objection(
    created: TaskCreated, granted: Granted, *, lease: Lease, pinned: frozenset[bytes]
) -> str | None:
    """Why an update for this task would not be hidden as it should; `pinned` are helpers that the owner trusts."""
    policy = created.policy
    # By the operator's word and not by the lease, which a selector could have granted without a key.
    if policy.is_sealed and find_epoch_key(granted, lease) is None:
        return f"task {created.task!r} is sealed, and its lease came with no key of its aggregator"
    if policy.is_masked and find_mask_keys(granted, lease, created=created) is None:
        return f"task {created.task!r} is masked, and its lease came without a key of each of its helpers"
    if policy.is_masked and (fault := _find_model_fault(created, granted, lease=lease)) is not None:
        return f"task {created.task!r} is masked, and nobody trains on its version {lease.version}: {fault}"
    if pinned and not pinned & set(policy.masked_by.public_keys):
        return f"task {created.task!r} is not masked by a helper that this device trusts (--helper)"
    return None


def _find_model_fault(created: TaskCreated, granted: Granted, *, lease: Lease) -> str | None:
    """Why a model could be one that only this device is shown: each helper co-signs one for a version, for ever."""
    if granted.cosigned is UNSET:
        return "its lease came without the word of each helper"
    return find_cosigning_fault(granted.cosigned, created, version=lease.version, model_sha256=lease.model_sha256)


def find_objection(created: TaskCreated | None, lease: Lease, *, bytes_max: int, at_ms: int) -> str | None:
    """Why a task, as the log has it, is not trained here under this lease, which came at `at_ms`.

    `bytes_max` is for its parameters.
    """
    # What trains is decided by the policy, so it must be the one that the selector leased under.
    if created is None or created.policy_sha256 != lease.policy_sha256:
        return f"task {lease.task!r} has another policy in the log than in the lease"
    if created.deployment != lease.deployment:
        return f"task {lease.task!r} lives in another deployment than the lease"
    if is_overlong(lease, lease_ms=created.policy.lease_ms, at_ms=at_ms):
        return f"the lease of task {lease.task!r} lasts longer than its policy allows"
    # The policy says how long training takes, so nobody is believed that it is within its bounds.
    if (fault := _find_fault(created)) is not None:
        # It quotes the policy, and may end on a terminal.
        told = "".join(letter if letter.isprintable() else " " for letter in fault[:300])
        return f"task {lease.task!r} cannot be trained: {told}"
    return find_excess(created, bytes_max=bytes_max)


def _find_fault(created: TaskCreated) -> str | None:
    """The first fault of a task; each of the objects seen last is judged once, for a fleet asks at every lease."""
    # By the object itself: it never changes, and one that only looks like it is another.
    known = next((fault for seen, fault in _judged if seen is created), _UNKNOWN)
    if known is _UNKNOWN:
        known = next(find_faults(created), None)
        _judged.appendleft((created, known))
    return known


def find_excess(created: TaskCreated, *, bytes_max: int) -> str | None:
    """Why the model of a task, with what is frozen in it or measured, takes more memory than it may have here."""
    tensors = created.subject.tensors if created.subject else created.tensors
    elements = max(created.parameters, count_elements(tensors, *VECTOR_ROLES, "frozen"))
    # The log may hold zeros in a few bytes that would take any amount of memory.
    if 4 * elements <= bytes_max:
        return None
    return f"task {created.task!r} has {elements} parameters, more than there is memory for on this device"
