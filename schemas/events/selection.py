"""Select and answer: topic `selections`, the selector's journal; topic `answers`, for devices, which is not history."""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import UNSET, UnsetType

from schemas.events.checkins import AbandonReason
from schemas.events.enrolment import Enrolled, EnrolmentRefused, SubjectId
from schemas.events.event import Event
from schemas.events.rounds import Statement
from schemas.identifiers import (
    BodyRef,
    Cohort,
    Count,
    DeviceId,
    DeviceKey,
    LeaseId,
    RoundId,
    Sha256,
    TaskId,
    TimeMs,
    UpdateId,
    Version,
)
from schemas.policy.metrics import FixedPoint

# fmt: off
# Where the policy asks for enrolled devices; subject_busy: another key of the same subject has a lease.
IdentityReason = Literal[
    "not_enrolled", "certificate_expired", "other_population", "other_class", "revoked", "subject_busy",
]
DeclineReason = Literal[
    "unknown_task", "paused", "closed", "no_model", "round_pending", "not_cosigned",
    "battery", "not_charging", "metered", "not_idle", "too_few_samples", "unknown_cohort",
    "replayed", "clock", "participations", "in_round", "no_slot", "not_drawn", "gave_up", "quarantined",
    IdentityReason,
]
# fmt: on


class LeaseGranted(Event):
    """The device may train once, from this version, until the deadline (append time of its update).

    `running`: what it said it runs in production, which nobody has checked, and which check-ins do not keep.
    """

    task: TaskId
    lease: LeaseId
    device: DeviceId
    public_key: DeviceKey
    # Of the check-in: an older one of this device decides nothing any more.
    sent_ms: TimeMs
    version: Version
    deadline_ms: TimeMs
    cohort: Cohort
    # As whom the device counts, where the policy asks for enrolled devices.
    subject: SubjectId | UnsetType = UNSET
    # Under whose key the update is sealed, where the policy asks for that.
    epoch: Count | UnsetType = UNSET
    running: Version | UnsetType = UNSET


class LeaseClosed(Event):
    """The lease is over, and its slot free. `round` names the round that took the update.

    `reason`: why a device has abandoned it. `loss` and `samples`: what it reports, where the policy's rule of selection
    looks at that; they stand here because a state is the fold of its own journal.
    """

    task: TaskId
    lease: LeaseId
    device: DeviceId
    outcome: Literal["used", "refused", "expired", "abandoned"]
    # None unless the update was admitted: an expired lease frees its slot and leaves no member.
    round: RoundId | None
    reason: AbandonReason | None = None
    loss: FixedPoint | None = None
    samples: Count | None = None
    subject: SubjectId | UnsetType = UNSET


class CheckinsDeclined(Event):
    """How many check-ins for a task got no lease, by reason; None: for tasks that do not exist. One a record."""

    # A stranger can invent names without end, so that those of no task are nowhere kept.
    task: TaskId | None
    counts: dict[DeclineReason, Count]


class Counted(Protocol):
    """What is said of one device under one policy."""

    @property
    def device(self) -> str: ...

    @property
    def subject(self) -> str | UnsetType: ...


def name_unit(said: Counted) -> str:
    """As whom it counts, once in a round and so often in all: its subject where it has one, and else its key."""
    return said.device if said.subject is UNSET else said.subject


# --- answer: topic `answers`, for devices; not history --------------------------------------------------------------


class Granted(Event):
    """Train now: `sealed` is the lease with its seal, `model` the version to start from.

    `epoch_key`: the key of the lease's epoch, as the aggregator signed it (`schemas.sealing.epochs`), or of a masked
    task the key of each helper, as they signed them (`schemas.masking.statements`). `cosigned`: of a masked task, what
    each helper has signed of the model of this version.
    """

    device: DeviceId
    # Of the whole record that is answered: a device takes no answer to what it has not asked.
    checkin_sha256: Sha256
    # Opaque for the device, which cannot check the seal.
    sealed: bytes
    model: BodyRef
    epoch_key: Statement | UnsetType = UNSET
    cosigned: Statement | UnsetType = UNSET


class Declined(Event):
    """Not now; ask again after `retry_after_ms`."""

    device: DeviceId
    checkin_sha256: Sha256
    task: TaskId
    reason: DeclineReason
    retry_after_ms: Count


class Outcome(Event):
    """What became of an update: "admitted", or why not. It never says that an update was zeroed."""

    device: DeviceId
    task: TaskId
    update: UpdateId
    # Of the whole record that is answered, which every repeat of an update has in common.
    record_sha256: Sha256
    # A plain string, so that an older device reads the reasons of a newer aggregator.
    outcome: str


SelectorEvent = LeaseGranted | LeaseClosed | CheckinsDeclined
Answer = Granted | Declined | Outcome | Enrolled | EnrolmentRefused
