"""Release: topic `rollouts`, the rollout's journal: which version is tried, by whom, and which one counts.

Whatever is decided names the scores that it rests on, as they stand in `evaluations`, and the model that is now to be
used, so that what is announced follows from the event alone.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.event import Event
from schemas.events.releasing.drift import DriftFound
from schemas.events.tasks import RolloutAction
from schemas.identifiers import BodyRef, Cohort, Count, TaskId, Version

# at_least, at_most, drop, gap: of a gate that failed; superseded: the operator has promoted another one meanwhile.
# drift: of a gate that looks at what a measure task has found.
RollbackReason = Literal["at_least", "at_most", "drop", "gap", "unscored", "gone", "ordered", "superseded", "drift"]
# gone: its model may be deleted already; unpublished: there is no such version yet.
OrderRefusal = Literal["gone", "unpublished", "no_candidate", "nothing_to_roll_back", "other_version"]


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """One score that a decision rests on: what one evaluator said of one metric of a version, for one cohort."""

    version: Version
    cohort: Cohort
    evaluator: str
    metric: str
    # Not its place in the log: a copy of a score is the same score, and readers look for what was said.
    value: float
    samples: Count


class CandidateStaged(Event):
    """The version is a candidate; nobody is to use it before the aggregator has said that it keeps its model."""

    task: TaskId
    version: Version
    # What is promoted while it is tried.
    previous: Version | None


class CanaryStarted(Event):
    """A share of the devices of these cohorts (of all, where none is named) is to use the candidate."""

    task: TaskId
    version: Version
    stage: Count
    cohorts: tuple[Cohort, ...]
    share: float
    evidence: tuple[Evidence, ...]
    # Said here, because `published` follows from the event alone: whoever serves it fetches this and asks nobody.
    model: BodyRef


class CanaryGrown(Event):
    """The next stage: another share, or other cohorts."""

    task: TaskId
    version: Version
    stage: Count
    cohorts: tuple[Cohort, ...]
    share: float
    evidence: tuple[Evidence, ...]
    model: BodyRef


class Promoted(Event):
    """Everybody is to use the version."""

    task: TaskId
    version: Version
    previous: Version | None
    evidence: tuple[Evidence, ...]
    model: BodyRef


class RolledBack(Event):
    """Nobody is to use the version any more: a candidate, or what was promoted; `to` is what counts instead."""

    task: TaskId
    version: Version
    # None where nothing was promoted before: then there is no version that anybody should use.
    to: Version | None
    reason: RollbackReason
    evidence: tuple[Evidence, ...]
    model: BodyRef | None
    # What it rests on where the reason is drift, word for word as it stands in `rounds`.
    drift: DriftFound | UnsetType = UNSET


class RolloutHalted(Event):
    """Nothing is staged, grown, promoted or rolled back until the operator says so; what is in use stays in use."""

    task: TaskId
    # What it is about: a candidate, what is promoted, or a version that nobody could stage.
    version: Version | None
    reason: Literal["disagreement", "ordered"]
    evidence: tuple[Evidence, ...]


class RolloutResumed(Event):
    """It goes on."""

    task: TaskId


class OrderRefused(Event):
    """The operator's order of this number changes nothing, for this reason."""

    task: TaskId
    number: Count
    action: RolloutAction
    reason: OrderRefusal


Canary = CanaryStarted | CanaryGrown
# What the aggregator keeps models for.
KeepsModels = CandidateStaged | Promoted | RolledBack
RolloutEvent = (
    CandidateStaged
    | CanaryStarted
    | CanaryGrown
    | Promoted
    | RolledBack
    | RolloutHalted
    | RolloutResumed
    | OrderRefused
)
