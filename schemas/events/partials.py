"""What shard workers report to the aggregator, in `partials`: results that name what they are results of.

Each is a function of a task's policy and of bodies, so that it does not matter who computed it, how often, or whether
it was computed at all: an aggregator that finds none computes it. None of it is history, and full replay never looks
at it. `seal` is an HMAC with a key that only the operator's workers have, over all the rest.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.event import Event
from schemas.events.updates import BodyFault
from schemas.identifiers import BodyRef, RoundId, Sha256, TaskId, UpdateId


class BodyMeasured(Event):
    """What is in a body: its clip scale (c of law 6), or what is wrong with it."""

    task: TaskId
    body: BodyRef
    clip_scale: Annotated[int, msgspec.Meta(ge=0, le=65_536)]
    fault: BodyFault | None
    seal: Sha256
    # Under which lease it was opened, where it is sealed: under any other it is nothing.
    update: UpdateId | UnsetType = UNSET


class PartialStored(Event):
    """The sum of those members of a round, committed to by `members_root`, whose bodies lie in one partition.

    `body` holds it: little-endian int64 of shape (parameters,), sealed where the task is (`schemas.sealing.partials`).
    """

    task: TaskId
    round: RoundId
    # It names the members that were added: a sum of other members is not taken.
    members_root: Sha256
    body: BodyRef
    seal: Sha256


Partial = BodyMeasured | PartialStored
