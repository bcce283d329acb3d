"""Every fact of fedlog, in the order of the story. Start reading here.

Rules for changing this file:

* A fact is named in the past tense; its tag `Name/1` is on the wire for ever, in golden bytes and in journals.
* A field is never added, removed, renamed or given another meaning in place. Write `Name/2` beside the old one, and an
  upcaster from `Name/1` in `schemas.envelope`; the golden bytes of `Name/1` stay in the tests.
* A new kind of fact, or a new word in a closed list, is first read by a release, and written by the next one.
* No floating point from a device, no clock, no secret: neither seed nor key nor training example is ever in an event.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from schemas.identifiers import (
    BodyRef,
    Cohort,
    Count,
    DeviceId,
    LeaseId,
    PublicKey,
    RoundId,
    Sha256,
    TaskId,
    TimeMs,
    UpdateId,
    Version,
)
from schemas.policy import Policy

# The closed lists of reasons (law 9), a line a kind.
# fmt: off
DeclineReason = Literal[
    "unknown_task", "paused", "closed", "no_model", "round_pending",
    "battery", "not_charging", "metered", "not_idle", "too_few_samples", "unknown_cohort",
    "other_key", "participations", "in_round", "no_slot",
]
BodyFault = Literal[
    # absent: past the end or something else there; out of grid: beyond twice the clip; defect: our own code raised
    "body_absent", "body_malformed", "body_shape", "not_finite", "out_of_grid", "defect",
]
RefusalReason = BodyFault | Literal[
    "duplicate", "expired", "stale", "from_the_future", "in_round", "participations",
    "unknown_task", "other_policy", "closed", "finished",
]
HaltReason = Literal["versions_max", "target", "budget", "too_few_devices", "idle", "closed"]
# fmt: on


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False, tag="{}/1".format):
    """Something that happened. Values compare by content; they are trees, so the cycle collector need not see them."""


# --- create: topic `tasks`, written by the operator -----------------------------------------------------------------


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named tensor of the model; a body is the concatenation of all of them, in this order."""

    name: str
    shape: tuple[Count, ...]


class TaskCreated(Fact):
    """A task begins. `weights[s]` is the integer weight of staleness s, computed once, here.

    `participations_before`: how often any one device may already have taken part in the tasks that this one carries on
    from (`task create --from`); it counts against every device, because privacy already spent stays spent.
    """

    task: TaskId
    policy: Policy
    policy_sha256: Sha256
    tensors: tuple[TensorSpec, ...]
    parameters: Count
    weights: tuple[Count, ...]
    model: BodyRef
    parent: TaskId | None
    participations_before: Count


class TaskPaused(Fact):
    """No new leases; updates under way are still admitted."""

    task: TaskId


class TaskResumed(Fact):
    """Leases again."""

    task: TaskId


class TaskClosed(Fact):
    """The operator ends the task."""

    task: TaskId


# --- check in: topic `checkins`, written by devices -----------------------------------------------------------------


class DeviceCheckedIn(Fact):
    """A device says that it could train now. Signed with `public_key`, which the first check-in binds to the device."""

    task: TaskId
    device: DeviceId
    public_key: PublicKey
    battery_percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    charging: bool
    unmetered: bool
    idle: bool
    samples: Count
    cohort: Cohort


class Tick(Fact):
    """Time has passed on this partition; a host writes one when nothing else would move its log time."""


# --- select: topic `selections`, the selector's journal -------------------------------------------------------------


class LeaseGranted(Fact):
    """The device may train once, from this version, until the deadline (append time of its update)."""

    task: TaskId
    lease: LeaseId
    device: DeviceId
    public_key: PublicKey
    version: Version
    deadline_ms: TimeMs
    cohort: Cohort


class LeaseClosed(Fact):
    """The lease is over, and its slot free. `round` names the round that took the update."""

    task: TaskId
    lease: LeaseId
    device: DeviceId
    outcome: Literal["used", "refused", "expired"]
    round: RoundId | None


class CheckinsDeclined(Fact):
    """So many check-ins got no lease, by reason; the declines of a batch are one event."""

    task: TaskId
    counts: dict[DeclineReason, Count]


# --- answer: topic `answers`, for devices; not history --------------------------------------------------------------


class Lease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a seal protects; the device carries the sealed bytes back with its update."""

    lease: LeaseId
    task: TaskId
    device: DeviceId
    public_key: PublicKey
    version: Version
    model_sha256: Sha256
    deadline_ms: TimeMs
    policy_sha256: Sha256


class Granted(Fact):
    """Train now: `sealed` is the lease with its seal, `model` the version to start from."""

    device: DeviceId
    sealed: bytes
    model: BodyRef


class Declined(Fact):
    """Not now; ask again after `retry_after_ms`."""

    device: DeviceId
    task: TaskId
    reason: DeclineReason
    retry_after_ms: Count


class Outcome(Fact):
    """What became of an update: "admitted", or why not. It never says that an update was zeroed."""

    device: DeviceId
    task: TaskId
    update: UpdateId
    outcome: str


# --- submit: topic `updates`, written by devices; the bytes stand in `bodies` ---------------------------------------


class UpdateSubmitted(Fact):
    """The result of one lease. A small body comes inline; then `body.offsets` is empty and means this very record."""

    sealed: Annotated[bytes, msgspec.Meta(max_length=1024)]
    samples: Count
    body: BodyRef
    inline: Annotated[bytes, msgspec.Meta(max_length=65_536)] | None


# --- aggregate: topic `rounds`, the aggregator's journal ------------------------------------------------------------


class RoundOpened(Fact):
    """An empty buffer; it will start from whatever version is newest when it is full."""

    task: TaskId
    round: RoundId


class UpdateAdmitted(Fact):
    """The update is in the buffer, with `weight` and `clip_scale` (c of law 6); `zeroed`: why it counts as zero."""

    task: TaskId
    round: RoundId
    update: UpdateId
    device: DeviceId
    body: BodyRef
    version: Version
    staleness: Count
    weight: Count
    clip_scale: Annotated[int, msgspec.Meta(ge=0, le=65_536)]
    zeroed: BodyFault | None
    deadline_ms: TimeMs


class UpdateRefused(Fact):
    """The update is in no round, for this reason."""

    task: TaskId
    update: UpdateId
    device: DeviceId
    reason: RefusalReason
    deadline_ms: TimeMs


class InputsDropped(Fact):
    """Inputs without a valid lease or signature: counted, with the first and the last offset."""

    topic: str
    count: Count
    first_offset: Count
    last_offset: Count


class Mechanism(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The noise of one release, on the sum's grid (one unit = step / 2^20 of a parameter)."""

    noise_multiplier: float
    clip_steps: Count
    weight_max: Count
    sigma: Count
    sampler: Literal["ladder-1"]
    key_id: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class RoundProposed(Fact):
    """The buffer is full; `members_root` commits to it, `participations_max` is of the busiest device, so far."""

    task: TaskId
    round: RoundId
    members_root: Sha256
    members: Count
    weight_sum: Count
    mechanism: Mechanism | None
    participations_max: Count


class SumStored(Fact):
    """The exact integer sum of the members' vectors, before noise; `body` is None where only its digest is kept."""

    task: TaskId
    round: RoundId
    members: Count
    sum_sha256: Sha256
    body: BodyRef | None


class ModelPublished(Fact):
    """A new version; `round` is None for version 0. `moments`: the optimizer's float32 vectors, where it has some."""

    task: TaskId
    version: Version
    round: RoundId | None
    model: BodyRef
    moments: BodyRef | None


class RoundAbandoned(Fact):
    """The round gives no version; its members, named by `members_root`, are dropped, their participations stay."""

    task: TaskId
    round: RoundId
    members_root: Sha256
    members: Count
    reason: Literal["withheld", "key_missing", "halted", "closed"]


class TaskHalted(Fact):
    """Nothing more will be admitted, for this reason."""

    task: TaskId
    reason: HaltReason
    version: Version | None


# --- charge: topic `ledger`, the privacy budget's journal -----------------------------------------------------------


class RoundCharged(Fact):
    """The release of this round is paid for. `rho_total` covers everything released so far, this round included."""

    task: TaskId
    round: RoundId
    mechanism: Mechanism
    participations_max: Count
    rho_total: float
    epsilon: float
    delta: float


class RoundWithheld(Fact):
    """The round may not be released."""

    task: TaskId
    round: RoundId
    participations_max: Count
    reason: Literal["budget", "mechanism", "participations"]


class BudgetExhausted(Fact):
    """No further round of this task can be paid for."""

    task: TaskId
    rho_total: float
    rho_max: float


# --- evaluate: topic `evaluations`, written by the evaluator --------------------------------------------------------


class VersionEvaluated(Fact):
    """How a version does on held-out data."""

    task: TaskId
    version: Version
    metrics: dict[str, float]
    samples: Count
    cohort: Cohort


# --- in every journal -----------------------------------------------------------------------------------------------

TaskFact = TaskCreated | TaskPaused | TaskResumed | TaskClosed
BudgetEvent = RoundCharged | RoundWithheld | BudgetExhausted
Noticeable = TaskFact | RoundProposed | ModelPublished | RoundAbandoned | TaskHalted | BudgetEvent | VersionEvaluated


class Noticed(Fact):
    """What this actor learned from another's topic: recorded, so that its state folds from its own journal alone."""

    fact: Noticeable


class DefectFound(Fact):
    """Our own code failed on this input, and passed it: only an update under a lease has another outcome beside.

    `number` counts the facts of a journal's record; `error` says what failed and where, never in the words of an input.
    """

    topic: str
    offset: Count
    number: Count
    error: Annotated[str, msgspec.Meta(max_length=200)]


class StateDigest(Fact):
    """The digest of the state after `decisions` decisions; a replay that differs stops here."""

    decisions: Count
    sha256: Sha256


SelectorEvent = LeaseGranted | LeaseClosed | CheckinsDeclined
AdmissionEvent = UpdateAdmitted | UpdateRefused | InputsDropped
RoundEvent = RoundOpened | RoundProposed | SumStored | ModelPublished | RoundAbandoned | TaskHalted
Event = Noticed | SelectorEvent | AdmissionEvent | RoundEvent | BudgetEvent | DefectFound | StateDigest
Answer = Granted | Declined | Outcome
AnyFact = TaskFact | DeviceCheckedIn | UpdateSubmitted | Tick | Event | Answer | VersionEvaluated
