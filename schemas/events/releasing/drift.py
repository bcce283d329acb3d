"""Release: topic `rounds`, the aggregator's journal: answers of a measure task beside those that they should be like.

All distances are whole millionths, so that no machine rounds them otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from schemas.events.event import Event
from schemas.identifiers import Cohort, TaskId, Version

# drift: from the reference; skew: from all other cohorts of the same version.
DriftKind = Literal["drift", "skew"]
DriftMeasure = Literal["psi", "ks"]
Millionths = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
StatisticName = Annotated[str, msgspec.Meta(max_length=512)]


class DriftFound(Event):
    """The answers of a version are further away than the policy allows, and than chance and noise explain.

    It is said with each version of which it is so; `since` is the one with which it came so far, and where it is the
    version itself the bound was crossed just now.
    """

    task: TaskId
    version: Version
    since: Version
    statistic: StatisticName
    # Empty for the devices of all cohorts together.
    cohort: Cohort
    kind: DriftKind
    measure: DriftMeasure
    value: Millionths
    # The policy's.
    bound: Millionths
    by_chance: Millionths
    # What it was compared with; of a skew this task and version themselves.
    reference: TaskId
    reference_version: Version


class DriftEnded(Event):
    """What was found with `since` is so no more: with this version `value` is below the bound again, or by chance."""

    task: TaskId
    version: Version
    since: Version
    statistic: StatisticName
    cohort: Cohort
    kind: DriftKind
    measure: DriftMeasure
    value: Millionths
    bound: Millionths
    by_chance: Millionths
    reference: TaskId
    reference_version: Version


DriftEvent = DriftFound | DriftEnded
