"""Aggregate: topic `rounds`, the aggregator's journal."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.enrolment import SubjectId
from schemas.events.event import Event
from schemas.events.masks import HelperNumber
from schemas.identifiers import BodyRef, Count, DeviceId, RoundId, Sha256, TaskId, UpdateId, Version
from schemas.policy import Share
from schemas.policy.metrics import MetricSums

# Of one aggregator, or of each of two helpers.
Statement = Annotated[bytes, msgspec.Meta(max_length=4_096)]
# Of the clip, or of one: whole numbers, so that no machine rounds them otherwise.
Thousandths = Annotated[int, msgspec.Meta(ge=-1_000_000, le=1_000_000)]
HaltReason = Literal["versions_max", "target", "budget", "too_few_devices", "idle", "closed", "diverged", "regressed"]


class RoundOpened(Event):
    """An empty buffer; it will start from whatever version is newest when it is full."""

    task: TaskId
    round: RoundId


class Mechanism(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The noise of one release, on the sum's grid (one unit = step / 2^20 of a parameter)."""

    noise_multiplier: float
    clip_steps: Count
    weight_max: Count
    sigma: Count
    # Named, because a release that draws otherwise could not recompute this one.
    sampler: Literal["ladder-2"]
    key_id: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class RoundProposed(Event):
    """The buffer is full; `members_root` commits to it, `participations_max` is of the busiest device, so far."""

    task: TaskId
    round: RoundId
    # The root of a tree over the members, which stand in the admissions before: a million of them fit into no record.
    members_root: Sha256
    members: Count
    weight_sum: Count
    # Of what the members report; None where the policy asks for nothing.
    metrics: MetricSums | None
    mechanism: Mechanism | None
    participations_max: Count
    # Where the population has a budget: what its busiest device has spent over all of its tasks, this round included.
    busiest: tuple[Share, ...] | UnsetType = UNSET


class SumStored(Event):
    """The exact integer sum of the members' vectors, before noise; `body` is None where only its digest is kept."""

    task: TaskId
    round: RoundId
    members: Count
    # Before noise, so that a full replay can compare it without the operator's key.
    sum_sha256: Sha256
    body: BodyRef | None
    # Of what the members report inside their sealed bodies: the proposal, which no body is opened for, cannot have it.
    metrics: MetricSums | UnsetType | None = UNSET


class Anomaly(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """An update that stands apart, in thousandths: lengths of the clip, a cosine of one, `z` of a robust z-score.

    `distance` and `cosine` are to the middle of the others (`actors.deciders.arithmetic.comparing`); `past` is the
    cosine to what the device sent when it last stood apart, within the policy's window and while that can be read.
    """

    update: UpdateId
    device: DeviceId
    distance: Thousandths
    norm: Thousandths
    cosine: Thousandths
    z: Thousandths
    subject: SubjectId | UnsetType = UNSET
    past: Thousandths | UnsetType = UNSET


class MembersCompared(Event):
    """The members of a round were compared with each other, and these stand apart.

    `seed`: of the sketches on which they were compared, so that a full replay finds the same.
    """

    task: TaskId
    round: RoundId
    members: Count
    seed: Sha256
    # Of nobody else anything is said: a sealed task hides single updates from whoever reads this.
    anomalies: tuple[Anomaly, ...]


class DeviceQuarantined(Event):
    """No update of the device counts in this task from here on, and it gets no lease, until the operator lifts it.

    `round`: with which it came so far; `rounds`: those in which it stood apart, this one last.
    """

    task: TaskId
    device: DeviceId
    # By which the operator's word that lifts it says that it means this one, and no later.
    round: RoundId
    reason: Literal["anomalous"]
    rounds: tuple[RoundId, ...]
    subject: SubjectId | UnsetType = UNSET


class ModelPublished(Event):
    """A new version; `round` is None for version 0. `moments`: the optimizer's float32 vectors, where it has some."""

    task: TaskId
    version: Version
    round: RoundId | None
    model: BodyRef
    # Beside the model, because a replay from this version on needs both.
    moments: BodyRef | None
    # Of the round, and said again here, because `published` is a function of this event: receipts rest on the root.
    members_root: Sha256 | None
    members: Count
    # Of a masked task: no lease leads to it before each helper has co-signed it.
    awaits_helpers: bool | UnsetType = UNSET


class RoundAbandoned(Event):
    """The round gives no version; its members, named by `members_root`, are dropped, their participations stay."""

    task: TaskId
    round: RoundId
    members_root: Sha256
    members: Count
    # masks_refused: a helper does not answer; masks_unusable: what it stored is not there, or gives no possible sum
    reason: Literal["withheld", "key_missing", "epoch_lost", "halted", "closed", "masks_refused", "masks_unusable"]


class TaskHalted(Event):
    """Nothing more will be admitted, for this reason."""

    task: TaskId
    reason: HaltReason
    version: Version | None


class EpochOpened(Event):
    """From here on leases name this epoch; `statement` is its public key, signed (`schemas.sealing.epochs`).

    Of a masked task it is that of each helper, as the helper signed it (`schemas.masking.statements`).

    The epoch before is retired: it gets no lease any more.
    """

    task: TaskId
    epoch: Count
    statement: Statement


class EpochDestroyed(Event):
    """Nothing that was sealed under this epoch opens any more: its private key is no longer where keys are kept.

    `over`: no lease and no round needed it. `lost`: it was not there.
    """

    task: TaskId
    epoch: Count
    reason: Literal["over", "lost"]


class MaskKeyOffered(Event):
    """A helper has opened its key of the next epoch, which begins with the last of them; `statement` is its own."""

    task: TaskId
    helper: HelperNumber
    epoch: Count
    statement: Statement


class CosignatureHeard(Event):
    """A helper has co-signed the model of a version; `statement` is its own word, for devices."""

    task: TaskId
    helper: HelperNumber
    version: Version
    statement: Statement


RoundEvent = (
    RoundOpened
    | RoundProposed
    | SumStored
    | MembersCompared
    | DeviceQuarantined
    | ModelPublished
    | RoundAbandoned
    | TaskHalted
    | EpochOpened
    | EpochDestroyed
    | MaskKeyOffered
    | CosignatureHeard
)
