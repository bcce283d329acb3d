"""Submit and admit: topic `updates`, written by devices (the bytes stand in `bodies`); what becomes of each update."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from schemas.events.event import Event
from schemas.identifiers import BodyRef, Count, DeviceId, RoundId, TaskId, TimeMs, UpdateId, Version

# fmt: off
BodyFault = Literal[
    # absent: past the end or something else there; out of grid: beyond twice the clip; defect: our own code raised
    "body_absent", "body_malformed", "body_shape", "not_finite", "out_of_grid", "defect",
]
RefusalReason = BodyFault | Literal[
    "duplicate", "expired", "stale", "from_the_future", "in_round", "participations",
    "unknown_task", "other_policy", "closed", "finished",
]
# fmt: on


class UpdateSubmitted(Event):
    """The result of one lease. A small body comes inline; then `body.offsets` is empty and means this very record."""

    # Task, device and version stand in the lease alone: what is said once cannot contradict itself.
    sealed: Annotated[bytes, msgspec.Meta(max_length=1024)]
    samples: Count
    body: BodyRef
    inline: Annotated[bytes, msgspec.Meta(max_length=65_536)] | None


# --- admit: topic `rounds`, the aggregator's journal ---------------------------------------------------------------


class UpdateAdmitted(Event):
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
    # With privacy a faulty update keeps its slot, or the refusal would depend on what is in it.
    zeroed: BodyFault | None
    deadline_ms: TimeMs


class UpdateRefused(Event):
    """The update is in no round, for this reason."""

    task: TaskId
    update: UpdateId
    device: DeviceId
    reason: RefusalReason
    deadline_ms: TimeMs


class InputsDropped(Event):
    """Inputs without a valid lease or signature: counted, with the first and the last offset."""

    topic: str
    count: Count
    # Counted and not listed: junk costs its sender more than it costs the journal.
    first_offset: Count
    last_offset: Count


AdmissionEvent = UpdateAdmitted | UpdateRefused | InputsDropped
