"""Create: topic `tasks`, written by the operator, who signs each record (`schemas.creations`)."""

from __future__ import annotations

import msgspec

from schemas.events.event import Event
from schemas.identifiers import BodyRef, Count, Deployment, PartitionCount, Sha256, TaskId
from schemas.policy import Policy


class TensorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One named tensor of the model; a body is the concatenation of all of them, in this order."""

    name: str
    shape: tuple[Count, ...]


class TaskCreated(Event):
    """A task begins. `weights[s]` is the integer weight of staleness s, computed once, here.

    `participations_before`: how often any one device may already have taken part in the tasks that this one carries on
    from (`task create --from`); it counts against every device, because privacy already spent stays spent.

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
    participations_before: Count


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


TaskEvent = TaskCreated | TaskPaused | TaskResumed | TaskClosed
