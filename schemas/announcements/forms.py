"""What the data of each kind of announcement hold; the document for programs is generated from here.

Readers pass over fields that they do not know, and over kinds that they do not know: both may be added. Another form of
the same kind is another type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from schemas import identifiers
from schemas.identifiers import TaskId
from schemas.published import AGGREGATOR, EVENT_TYPE, ROLLOUT
from schemas.topics import ROLLOUTS, ROUNDS

CANARY_TYPE = "io.fedlog.rollout.canary.v1"
PROMOTED_TYPE = "io.fedlog.rollout.promoted.v1"
ROLLED_BACK_TYPE = "io.fedlog.rollout.rolledback.v1"
HALTED_TYPE = "io.fedlog.rollout.halted.v1"
DRIFT_FOUND_TYPE = "io.fedlog.drift.found.v1"
DRIFT_ENDED_TYPE = "io.fedlog.drift.ended.v1"

Task = Annotated[TaskId, Meta(description="Name of the task.")]
Cohort = Annotated[identifiers.Cohort, Meta(description="Name of a cohort; empty: all.")]
Number = Annotated[int, Meta(ge=0)]
Version = Annotated[int, Meta(ge=0, description="Number of a version; 0 is the first model.")]
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="A sha256 in hex.")]


class ModelAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the bytes of a model stand in the log, and what they must be. Compare `sha256` before using them."""

    topic: Annotated[str, Meta(description="Name of the topic, without the prefix of the deployment.")]
    partition: Number
    offsets: Annotated[tuple[Number, ...], Meta(description="The records that hold the chunks, in order.")]
    sha256: Digest
    size: Annotated[int, Meta(ge=0, description="Bytes, as they are stored.")]
    codec: Annotated[str, Meta(description="How to read them: float32 is one zstd frame of little-endian float32.")]


class JournalHead(msgspec.Struct, frozen=True, kw_only=True):
    """Where the chain of the journal stands behind the batch that decided this: a checkpoint for auditors."""

    topic: str
    partition: Number
    seq: Annotated[int, Meta(ge=0, description="Number of the batch; announcements of one journal never go back.")]
    head: Digest


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """A score that a decision of a rollout rests on."""

    version: Version
    cohort: Cohort
    # By its key and not by a name that it gives itself.
    evaluator: str
    metric: str
    value: float
    samples: Number


Distance = Annotated[float, Meta(ge=0)]


class DriftStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How far the answers of a measure task have moved."""

    task: Task
    version: Annotated[int, Meta(ge=1, description="The version of the measure task whose answers these are.")]
    since: Annotated[int, Meta(ge=1, description="The version with which the bound was crossed.")]
    statistic: str
    cohort: Cohort
    kind: Annotated[str, Meta(description="drift: from the reference; skew: from all other cohorts.")]
    measure: Annotated[str, Meta(description="psi: population stability index; ks: Kolmogorov-Smirnov distance.")]
    value: Distance
    # Both have to be passed, or it is no news.
    bound: Annotated[float, Meta(ge=0, description="The policy's.")]
    by_chance: Annotated[float, Meta(ge=0, description="Up to where chance and noise alone may have it.")]
    reference: Annotated[TaskId, Meta(description="The task with whose answers it was compared.")]
    reference_version: Version


class DriftFound(DriftStanding, frozen=True, kw_only=True):
    """The answers of a measure task have moved: a distance has crossed the bound of the policy, and that of chance."""

    model: None
    journal: JournalHead


class DriftEnded(DriftStanding, frozen=True, kw_only=True):
    """A distance that was found is within its bound again."""

    model: None
    journal: JournalHead


class VersionPublished(msgspec.Struct, frozen=True, kw_only=True):
    """A round was released as a new version, or the operator's first model as version 0."""

    task: Task
    version: Version
    round: Annotated[int | None, Meta(description="The round that made it; null for version 0.")]
    model: ModelAddress
    members_root: Annotated[str | None, Meta(description="Merkle root over the members of the round, in hex.")]
    members: Annotated[int, Meta(ge=0, description="Updates that are in it.")]
    journal: JournalHead


Scores = Annotated[tuple[Evidence, ...], Meta(description="What the decision rests on.")]


class CanaryStaged(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate goes to a share of the devices, or to a larger share than before; `model` is the candidate's."""

    task: Task
    version: Version
    stage: Number
    share: Annotated[float, Meta(ge=0, le=1, description="The share of the devices of these cohorts.")]
    cohorts: Annotated[tuple[Cohort, ...], Meta(description="Empty: all.")]
    evidence: Scores
    model: ModelAddress
    journal: JournalHead


class VersionPromoted(msgspec.Struct, frozen=True, kw_only=True):
    """From now on everybody should use this version; `model` is its model."""

    task: Task
    version: Version
    # The first promotion of a task replaces none.
    previous: Annotated[int | None, Meta(description="The version that it replaces.")]
    evidence: Scores
    model: ModelAddress
    journal: JournalHead


class VersionRolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody should use `version` any more, but `to`; `model` is that of `to`."""

    task: Task
    version: Version
    # Where nothing was promoted before there is no version that anybody should use.
    to: Annotated[int | None, Meta(description="The version that counts instead; null: none.")]
    reason: str
    evidence: Scores
    model: ModelAddress | None
    journal: JournalHead
    # Of the reason drift: what it rests on.
    drift: DriftStanding | UnsetType = UNSET


class RolloutHalted(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is staged, promoted or rolled back until the operator resumes; what is in use stays in use."""

    task: Task
    # What it is about, which nobody should use for having been named here.
    version: Annotated[int | None, Meta(description="The version in doubt; null: none.")]
    reason: str
    evidence: Scores
    model: None
    journal: JournalHead


Data = VersionPublished | CanaryStaged | VersionPromoted | VersionRolledBack | RolloutHalted | DriftFound | DriftEnded
DataType = type[Data]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of announcement: its CloudEvents type and data, whose word it is, and in which journal it stands."""

    name: str
    type: str
    data: DataType
    role: str = ROLLOUT
    journal: str = ROLLOUTS.name


KINDS: Mapping[str, Kind] = {
    kind.type: kind
    for kind in (
        Kind(name="published", type=EVENT_TYPE, data=VersionPublished, role=AGGREGATOR, journal=ROUNDS.name),
        Kind(name="canary", type=CANARY_TYPE, data=CanaryStaged),
        Kind(name="promoted", type=PROMOTED_TYPE, data=VersionPromoted),
        Kind(name="rolledback", type=ROLLED_BACK_TYPE, data=VersionRolledBack),
        Kind(name="halted", type=HALTED_TYPE, data=RolloutHalted),
        Kind(name="driftfound", type=DRIFT_FOUND_TYPE, data=DriftFound, role=AGGREGATOR, journal=ROUNDS.name),
        Kind(name="driftended", type=DRIFT_ENDED_TYPE, data=DriftEnded, role=AGGREGATOR, journal=ROUNDS.name),
    )
}
"""By type."""
