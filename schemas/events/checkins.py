"""Check in: topic `checkins`, written by devices."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.events.event import Event
from schemas.identifiers import Cohort, Count, DeviceId, DeviceKey, TaskId, TimeMs


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


class Tick(Event):
    """Time has passed on this partition; a host writes one when nothing else would move its log time."""
