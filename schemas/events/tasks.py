"""Create: topic `tasks`, written by the operator, who signs each record (`schemas.creations`)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.enrolment import SubjectId
from schemas.events.event import Event
from schemas.identifiers import (
    BodyRef,
    Count,
    Deployment,
    DeviceId,
    PartitionCount,
    Population,
    RoundId,
    Sha256,
    TaskId,
    Version,
)
from schemas.policy import Measure, Policy, Spending, count_affordable

# Whom a token of a server names: text for people, and nobody's key.
Asker = Annotated[str, msgspec.Meta(max_length=64)]
# Each learner's word for it (`client_agent.learning.learner`); what is local is nobody else's business.
# Under privacy what devices report is part of the vector, as `reported`, and stands in no learner.
TensorRole = Literal["trained", "averaged", "frozen", "reported"]
VECTOR_ROLES: tuple[TensorRole, ...] = ("trained", "averaged", "reported")
RolloutAction = Literal["promote", "rollback", "halt", "resume", "approve"]


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """One named tensor of the model, as an array of three: a model has thousands.

    The vector of a version is the concatenation of those trained, then of those averaged, each in this order, then of
    what is reported; the frozen ones are a body of their own.
    """

    name: Annotated[str, msgspec.Meta(max_length=512)]
    shape: Annotated[tuple[Count, ...], msgspec.Meta(max_length=32)]
    role: TensorRole = "trained"

    @property
    def size(self) -> int:
        """How many elements it has."""
        return prod(self.shape)


def count_elements(tensors: Iterable[TensorSpec], *roles: TensorRole) -> int:
    """How many elements the tensors with one of these roles have together."""
    return sum(tensor.size for tensor in tensors if tensor.role in roles)


def list_statistics(measure: Measure) -> tuple[TensorSpec, ...]:
    """What a measure task asks for, as the tensors of its vector, in the order of the policy."""
    return tuple(TensorSpec(name=name, shape=asked.shape) for name, asked in measure.statistics.items())


class Subject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a measure task measures: a copy of one version of a task, and its tensors."""

    task: TaskId
    version: Version
    tensors: tuple[TensorSpec, ...]
    model: BodyRef


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a measure task's answers are compared with: a copy of one version of another, in this task's own form.

    `members`: how many answers it was of; `noise`: the standard deviation of that in each count of their sum.
    """

    task: TaskId
    version: Version
    members: Count
    # Recorded: how far it may be by chance depends on the privacy of another policy.
    noise: float
    model: BodyRef


class TaskCreated(Event):
    """A task begins. `weights[s]` is the integer weight of staleness s, computed once, here.

    `spent_before`: what the busiest device of each private task that this one carries on from (`task create --from`)
    has spent, the oldest first; it counts against every device, because privacy already spent stays spent.

    `partitions`: how many the cluster's topics have. Where the task lives follows from it, so on a cluster with another
    number, as after a change of its topics, actors and devices refuse the task.

    `parameters`: the length of the vector, of which the first `trained` train. `frozen`: the body of what does not.
    `sources`: the digest of the source of each plugin that the policy names, as the operator had it.
    """

    task: TaskId
    # Where the task lives: a copy of this record in another deployment of the same operator creates nothing.
    deployment: Deployment
    partitions: PartitionCount
    policy: Policy
    # Each lease carries it, so that an update under another policy is refused.
    policy_sha256: Sha256
    tensors: tuple[TensorSpec, ...]
    parameters: Count
    # Recorded, because another release or machine may round a power differently.
    weights: tuple[Count, ...]
    model: BodyRef
    frozen: BodyRef | None
    subject: Subject | None
    sources: dict[str, Sha256]
    parent: TaskId | None
    # Pairs and no total: what a participation costs depends on the noise of its task.
    spent_before: tuple[Spending, ...]
    # The subject of the token with which a server was asked; empty where the operator wrote it.
    asked_by: Asker = ""
    # Where [drift] names another task; omitted else, so that older creations keep their bytes.
    reference: Reference | UnsetType = UNSET

    @property
    def trained(self) -> int:
        """How many elements the server's optimizer steps; it only averages those behind them."""
        return count_elements(self.tensors, "trained")

    @property
    def participations_cap(self) -> int | None:
        """How often one device may take part: m = floor(2 z^2 (rho_max - rho before)), or fewer as the policy asks."""
        privacy, most = self.policy.privacy, self.policy.selection.participations_max or None
        if privacy is None:
            return most
        affordable = count_affordable(privacy.noise_multiplier, privacy.rho_max, spent=self.spent_before)
        return affordable if most is None else min(most, affordable)

    def list_spent(self, participations: int) -> tuple[Spending, ...]:
        """All that has been spent once a device has taken part so often here; nothing of it without privacy."""
        privacy = self.policy.privacy
        if privacy is None:
            return ()
        own = Spending(task=self.task, participations=participations, noise_multiplier=privacy.noise_multiplier)
        return (*self.spent_before, own)


class DeploymentFounded(Event):
    """The first record of a deployment: its random name. It stands in partition 0; of several the first counts."""

    deployment: Deployment


class TaskPaused(Event):
    """No new leases; updates under way are still admitted.

    `number` grows with each pause and resume of a task: a copy of an old record changes nothing.
    """

    task: TaskId
    deployment: Deployment
    number: Count
    asked_by: Asker = ""


class TaskResumed(Event):
    """Leases again."""

    task: TaskId
    deployment: Deployment
    number: Count
    asked_by: Asker = ""


class TaskClosed(Event):
    """The operator ends the task."""

    task: TaskId
    deployment: Deployment
    asked_by: Asker = ""


class TaskSucceeded(Event):
    """`successor` carries on from the task. It stands in the task's own partition; of several the first counts.

    Two successors would each spend what the one before has left, and only one partition's order can tell them apart.
    """

    task: TaskId
    deployment: Deployment
    successor: TaskId
    asked_by: Asker = ""


class QuarantineLifted(Event):
    """The device, or its subject where devices are enrolled, takes part again.

    `round`: that of the quarantine which is lifted; a copy of this order lifts no later one.
    """

    task: TaskId
    deployment: Deployment
    device: DeviceId
    round: RoundId
    asked_by: Asker = ""
    subject: SubjectId | UnsetType = UNSET


class PopulationBudgetSet(Event):
    """No device may spend more than `rho_max` over all tasks of the population together, from here on and for ever.

    With `identity` enrolled it is no subject that may. It stands in the partition of the population. A lower one
    counts from its place on, a higher one or an equal one never: what was promised to people is not taken back.
    """

    population: Population
    deployment: Deployment
    rho_max: float
    identity: Literal["open", "enrolled"]
    asked_by: Asker = ""


class RolloutOrdered(Event):
    """The operator has a version promoted or rolled back, or halts, resumes or approves what is under way.

    `number` grows with each order of a task: a copy of an old one changes nothing.
    """

    task: TaskId
    deployment: Deployment
    number: Count
    action: RolloutAction
    version: Version | None
    asked_by: Asker = ""


TaskEvent = (
    TaskCreated
    | TaskPaused
    | TaskResumed
    | TaskSucceeded
    | TaskClosed
    | QuarantineLifted
    | PopulationBudgetSet
    | RolloutOrdered
)
