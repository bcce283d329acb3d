"""Submit and admit: topic `updates`, written by devices (the bytes stand in `bodies`); what becomes of each update."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.enrolment import SubjectId
from schemas.events.event import Event
from schemas.events.masks import HELPERS_MAX
from schemas.identifiers import BodyRef, Count, DeviceId, RoundId, Salt, TaskId, TimeMs, UpdateId, Version
from schemas.policy import WEIGHT_ONE, WEIGHT_ONE_MASKED
from schemas.policy.metrics import METRIC_ONE, Fidelity, Reported

CLIP_ONE = 1 << 16  # the clip scale that leaves an update as it is

SealedSeed = Annotated[bytes, msgspec.Meta(max_length=1_536)]
# fmt: off
BodyFault = Literal[
    # absent: past the end, or else there; out of grid: beyond 2 clips; not opened: sealed otherwise; defect: our code
    "body_absent", "body_malformed", "body_shape", "not_finite", "out_of_grid", "not_opened", "defect",
]
RefusalReason = BodyFault | Literal[
    "stale", "from_the_future", "in_round", "participations", "closed", "finished", "epoch_over", "quarantined",
]
CountedReason = Literal["duplicate", "expired", "unknown_task", "other_policy"]
# fmt: on


class UpdateSubmitted(Event):
    """The result of one lease. A small body comes inline; then `body.offsets` is empty and means this very record.

    `metrics` are of the training, in the order of the policy's `evaluation.report`. `fidelity`: None with privacy.
    """

    # Task, device and version stand in the lease alone: what is said once cannot contradict itself.
    sealed: Annotated[bytes, msgspec.Meta(max_length=1024)]
    samples: Count
    metrics: Reported
    body: BodyRef
    inline: Annotated[bytes, msgspec.Meta(max_length=65_536)] | None
    # Of the vector itself, so that with privacy nobody is told.
    fidelity: Fidelity | None = None
    # Of a masked update: the seed of each helper's mask, sealed to that helper (`schemas.masking.seeds`).
    seals: Annotated[tuple[SealedSeed, ...], msgspec.Meta(max_length=HELPERS_MAX)] | UnsetType = UNSET


# --- admit: topic `rounds`, the aggregator's journal ---------------------------------------------------------------


class UpdateAdmitted(Event):
    """The update is in the buffer, with `weight` and `clip_scale` (c of law 6); `zeroed`: why it counts as zero.

    `metrics` is empty where the policy asks for none; `samples` is their weight. `salt` is random, for its leaf under
    the round's members root: the root is public, and the member is not. `epoch`: that under whose key the body is
    sealed; what the device reports is in it then, and not here.
    """

    task: TaskId
    round: RoundId
    update: UpdateId
    device: DeviceId
    body: BodyRef
    version: Version
    staleness: Count
    weight: Count
    clip_scale: Annotated[int, msgspec.Meta(ge=0, le=65_536)]
    # With privacy a faulty update keeps its slot, or the refusal would depend on what is in it.
    zeroed: BodyFault | None
    metrics: Reported
    samples: Count
    salt: Salt
    deadline_ms: TimeMs
    fidelity: Fidelity | None = None
    subject: SubjectId | UnsetType = UNSET
    epoch: Count | UnsetType = UNSET
    # Of a masked update: where it was submitted, offset and message, so that helpers find what was sealed to them.
    submitted_at: tuple[Count, Count] | UnsetType = UNSET

    @property
    def weight_one(self) -> int:
        """The integer weight of a fresh update that counts once, in its task's tier."""
        return WEIGHT_ONE if self.submitted_at is UNSET else WEIGHT_ONE_MASKED

    @property
    def is_clipped(self) -> bool:
        """Whether a clip has cut something off: the device's, as far as it tells, or the server's own."""
        if self.zeroed is not None:
            return False
        return self.clip_scale < CLIP_ONE or (self.fidelity is not None and self.fidelity.kept < METRIC_ONE)


class UpdateRefused(Event):
    """The update is in no round, for this reason; it is the first outcome of its lease, and ends it."""

    task: TaskId
    update: UpdateId
    device: DeviceId
    reason: RefusalReason
    deadline_ms: TimeMs
    subject: SubjectId | UnsetType = UNSET


class UpdatesDeclined(Event):
    """How many updates ended no lease, by reason; None: under leases of no task here. One a record.

    `duplicate`: the lease has its outcome. The other reasons follow from lease and append time alone.
    """

    # A lease can be sent without end, and the journal is kept for ever.
    task: TaskId | None
    counts: dict[CountedReason, Count]


class InputsDropped(Event):
    """Inputs without a valid lease or signature: counted, with the first and the last offset. One a record."""

    topic: str
    count: Count
    # Counted and not listed: junk costs its sender more than it costs the journal.
    first_offset: Count
    last_offset: Count


AdmissionEvent = UpdateAdmitted | UpdateRefused | UpdatesDeclined | InputsDropped
