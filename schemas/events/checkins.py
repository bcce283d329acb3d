"""Check in, or give a lease up: topic `checkins`, written by devices."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.enrolment import CERTIFICATE_BYTES_MAX, SubjectId
from schemas.events.event import Event
from schemas.identifiers import Cohort, Count, DeviceId, DeviceKey, LeaseId, TaskId, TimeMs, Version

# What an example can cause: said by nobody under a policy with privacy, which sends a zero vector instead.
LearningFailure = Literal["training_failed", "not_finite", "failed", "too_few_classes"]
AbandonReason = (
    Literal["not_allowed", "cannot_load", "model_missing", "task_unfit", "overdue", "no_space"] | LearningFailure
)


class DeviceCheckedIn(Event):
    """A device says that it could train now, signed with the key of which its id is a digest (`schemas.devices`)."""

    task: TaskId
    device: DeviceId
    # In every check-in, because there is no registration before.
    public_key: DeviceKey
    # The device's own clock, and never the same twice: a recorded check-in is good for nothing later.
    sent_ms: TimeMs
    battery_percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    charging: bool
    unmetered: bool
    idle: bool
    # A device's own claim, which is compared with `selection.samples_min` and with nothing else.
    samples: Count
    cohort: Cohort
    # Where the policy asks for enrolled devices; left out elsewhere, for it is half of the record.
    certificate: Annotated[bytes, msgspec.Meta(max_length=CERTIFICATE_BYTES_MAX)] | UnsetType = UNSET
    # The version that it runs in production, where it says so: nobody is selected by it.
    running: Version | UnsetType = UNSET


class LeaseAbandoned(Event):
    """A device gives a lease up: there will be no update under it, and others may have its slot. Signed as a check-in.

    Why stands in the device's own log in full; here it is one of a closed list, in which nothing of its data is.
    """

    task: TaskId
    device: DeviceId
    public_key: DeviceKey
    lease: LeaseId
    reason: AbandonReason
    # That of the lease, by which it is found.
    subject: SubjectId | UnsetType = UNSET


class Tick(Event):
    """Time has passed on this partition; a host writes one when nothing else would move its log time."""
