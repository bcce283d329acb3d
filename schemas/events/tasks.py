"""Create: topic `tasks`, written by the operator, who signs each record (`schemas.creations`)."""

from __future__ import annotations

import msgspec

from schemas.events.event import Event
from schemas.identifiers import BodyRef, Count, Deployment, PartitionCount, Sha256, TaskId
from schemas.policy import Policy, Spending, count_affordable


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named tensor of the model; a body is the concatenation of all of them, in this order."""

    name: str
    shape: tuple[Count, ...]


class TaskCreated(Event):
    """A task begins. `weights[s]` is the integer weight of staleness s, computed once, here.

    `spent_before`: what the busiest device of each private task that this one carries on from (`task create --from`)
    has spent, the oldest first; it counts against every device, because privacy already spent stays spent.

    `partitions`: how many the cluster's topics have. Where the task lives follows from it, so on a cluster with another
    number, as after a change of its topics, actors and devices refuse the task.
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
    parent: TaskId | None
    # Pairs and no total: what a participation costs depends on the noise of its task.
    spent_before: tuple[Spending, ...]

    @property
    def participations_cap(self) -> int | None:
        """How often one device may take part in this task: m = floor(2 z^2 (rho_max - rho before))."""
        privacy = self.policy.privacy
        if privacy is None:
            return None
        return count_affordable(privacy.noise_multiplier, privacy.rho_max, spent=self.spent_before)

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


class TaskResumed(Event):
    """Leases again."""

    task: TaskId
    deployment: Deployment
    number: Count


class TaskClosed(Event):
    """The operator ends the task."""

    task: TaskId
    deployment: Deployment


class TaskSucceeded(Event):
    """`successor` carries on from the task. It stands in the task's own partition; of several the first counts.

    Two successors would each spend what the one before has left, and only one partition's order can tell them apart.
    """

    task: TaskId
    deployment: Deployment
    successor: TaskId


TaskEvent = TaskCreated | TaskPaused | TaskResumed | TaskSucceeded | TaskClosed
