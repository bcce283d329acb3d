"""Check in: topic `checkins`, written by devices."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.events.event import Event
from schemas.identifiers import Cohort, Count, DeviceId, PublicKey, TaskId


class DeviceCheckedIn(Event):
    """A device says that it could train now. Signed with `public_key`, which the first check-in binds to the device."""

    task: TaskId
    device: DeviceId
    # In every check-in, so that the first one can bind it: there is no registration before.
    public_key: PublicKey
    battery_percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    charging: bool
    unmetered: bool
    idle: bool
    # A device's own claim, which is compared with `selection.samples_min` and with nothing else.
    samples: Count
    cohort: Cohort


class Tick(Event):
    """Time has passed on this partition; a host writes one when nothing else would move its log time."""
