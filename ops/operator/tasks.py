"""What an operator does to tasks: create, pause, resume, close, look at. Each change is one event in `tasks`.

Called by the commands `fedlog task`, by the demo, and by anything else that has an open log.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from actors.keys import Author
from ops.history.following import Follower
from ops.history.projections import TOPICS, TaskViews
from ops.history.task_view import TaskView, find_scored_version, tell_newest_scores
from ops.operator import deployments, succession
from ops.operator.errors import (
    CloseUnnoticed,
    ModelMismatch,
    TaskExists,
    TaskNameInvalid,
    TaskOver,
    TaskTooLarge,
    TaskUnknown,
    VersionUnknown,
)
from ops.operator.populations import budgets
from ops.operator.readback import read_back
from ops.operator.succession import CLOSE_WAIT_S, Branch, Predecessor, Start, Weights
from schemas.canonical import TASK_BYTES_MAX, encode
from schemas.creations import collect_creations, parse_task_event
from schemas.events import (
    PopulationBudgetSet,
    TaskClosed,
    TaskCreated,
    TaskEvent,
    TaskPaused,
    TaskResumed,
    TensorSpec,
    count_elements,
)
from schemas.identifiers import TASK_PATTERN, TaskId, Version
from schemas.policy import Policy, PolicyError, Spending
from schemas.topics import ROUNDS, TASKS, partition_of
from streams.log import Draft, EventLog, TopicPartition, scan

if TYPE_CHECKING:
    from ops.operator.first_models import FirstModel
    from schemas.tensors import Floats

NAME = re.compile(TASK_PATTERN)

T = TypeVar("T")


def create(log: EventLog, name: TaskId, *, key: Author, policy: Policy, after: Start | None = None) -> TaskCreated:
    """Store the first model and append TaskCreated.

    Raises TaskNameInvalid, PolicyError, TaskExists, TaskTooLarge, WriteHidden, and what `measurements.make` raises;
    with `after` also WeightsUnfit, TaskUnknown, ParentUnprotected, ModelMismatch, SuccessorExists, CloseUnnoticed and
    BudgetSpent.
    """
    # numpy and torch come with these, and nothing else that an operator does to a task needs them.
    from ops.operator import first_models, measurements

    check_name(name)
    _check_shards(log, policy)
    _check_is_free(log, name, operator=key.public_key)
    first = measurements.make(log, policy, operator=key.public_key) if policy.measure else first_models.make(policy)
    spent: tuple[Spending, ...] = ()
    if isinstance(after, Predecessor | Branch):
        budgets.check_succession(log, after.task, successor=name, operator=key.public_key)
    budgets.check_task(log, name, policy=policy, operator=key.public_key)
    if isinstance(after, Weights):
        first = _start_with_file(first, after.path, policy=policy)
    elif isinstance(after, Branch):
        first = _start_with_branch(log, after, first=first, policy=policy, operator=key.public_key)
    elif isinstance(after, Predecessor):
        # All that can be refused is refused first: a predecessor that was closed in vain stays closed.
        _check_predecessor(log, after, first=first, policy=policy, operator=key.public_key)
        parent = close_and_wait(log, after.task, successor=name, key=key, wait_s=after.wait_s)
        spent = succession.list_spent(parent, policy)
        first = first.starting_with(*_read_model(log, parent, version=after.version)) if after.warm_start else first
    stored = first_models.store(log, first, partition=partition_of(name, log.partitions))
    created = TaskCreated(
        task=name,
        deployment=deployments.name_deployment(log, key),
        partitions=log.partitions,
        policy=policy,
        policy_sha256=hashlib.sha256(encode(policy)).digest(),
        tensors=first.tensors,
        parameters=first.vector.size,
        weights=policy.weights(),
        model=stored.model,
        frozen=stored.frozen,
        subject=stored.subject,
        sources=first.sources,
        parent=after.task if isinstance(after, Predecessor) else None,
        spent_before=spent,
        asked_by=key.asked_by,
        reference=stored.reference,
    )
    _append_creation(log, created, key=key)
    return created


def _check_predecessor(
    log: EventLog, after: Predecessor, *, first: FirstModel, policy: Policy, operator: bytes
) -> None:
    old = _require_creation(log, after.task, operator=operator)
    succession.check_privacy(old, policy)
    if after.warm_start and policy.measure is not None:
        raise ModelMismatch("A measurement starts from nothing; create it without a warm start.")
    if after.warm_start:
        _check_vectors(old, first.tensors, policy=policy)


def _start_with_file(first: FirstModel, path: Path, *, policy: Policy) -> FirstModel:
    from ops.operator import weight_files

    if policy.measure is not None:
        raise ModelMismatch("A measurement starts from nothing; create it without weights.")
    return weight_files.start_with(first, weight_files.read_weights(path))


def check_name(name: TaskId) -> None:
    """Raises TaskNameInvalid for a name that a new task must not have."""
    if not NAME.fullmatch(name):
        raise TaskNameInvalid(
            f"{name!r} is no name of a task: lower-case letters, digits and dashes, at most 63, or two such names with "
            "a dot between them, POPULATION.TASK."
        )


def pause(log: EventLog, task: TaskId, *, key: Author) -> None:
    """Grant no new leases; updates under way are still admitted. Raises TaskUnknown, TaskOver."""
    _require_going_on(log, task, operator=key.public_key)
    created, number = _find_next_number(log, task, operator=key.public_key)
    _append(log, TaskPaused(task=task, deployment=created.deployment, number=number, asked_by=key.asked_by), key=key)


def resume(log: EventLog, task: TaskId, *, key: Author) -> None:
    """Grant leases again. Raises TaskUnknown, TaskOver."""
    _require_going_on(log, task, operator=key.public_key)
    created, number = _find_next_number(log, task, operator=key.public_key)
    _append(log, TaskResumed(task=task, deployment=created.deployment, number=number, asked_by=key.asked_by), key=key)


def close(log: EventLog, task: TaskId, *, key: Author) -> None:
    """End the task for good; its versions stay. Raises TaskUnknown."""
    created = _require_creation(log, task, operator=key.public_key)
    _append(log, TaskClosed(task=task, deployment=created.deployment, asked_by=key.asked_by), key=key)


def close_and_wait(
    log: EventLog, task: TaskId, *, successor: TaskId, key: Author, wait_s: float = CLOSE_WAIT_S
) -> TaskView:
    """Close a task so that `successor` can carry on from it; its view once the aggregator has noticed.

    The successor has claimed it by then. Raises TaskUnknown, SuccessorExists and CloseUnnoticed.
    """
    created = _require_creation(log, task, operator=key.public_key)
    succession.claim(log, created, successor=successor, key=key)
    views = TaskViews(operator=key.public_key, deployment=created.deployment)
    with Follower(log, views, partitions=[partition_of(task, log.partitions)]) as follower:
        follower.catch_up()
        view = views.view(task)
        if not view.closed and view.halted is None:
            _append(log, TaskClosed(task=task, deployment=created.deployment, asked_by=key.asked_by), key=key)
        _wait_until_halted(follower, view, wait_s=wait_s)
    # The aggregator's journal may lag behind `tasks`, where the creation was just read.
    view.created = view.created or created
    return view


def make_views(log: EventLog, operator: bytes | None, *, topics: Sequence[str] = TOPICS) -> TaskViews:
    """Views of the tasks of this log's deployment, before anything is read; `operator` is the public key."""
    # What the operator's roles say in another deployment could be copied into this one.
    return TaskViews(topics, operator=operator, deployment=deployments.find(log, operator))


def find_views(
    log: EventLog, partitions: Iterable[int] | None = None, *, operator: bytes | None = None
) -> dict[TaskId, TaskView]:
    """The tasks of these partitions, or of all, as they stand at the present end of the log."""
    views = make_views(log, operator)
    with Follower(log, views, partitions=partitions) as follower:
        follower.catch_up()
    return views.tasks


def find_view(log: EventLog, task: TaskId, *, operator: bytes | None = None) -> TaskView:
    """One task as it stands at the present end of the log. Raises TaskUnknown."""
    return require(find_views(log, [partition_of(task, log.partitions)], operator=operator), task)


def require(tasks: Mapping[TaskId, T], task: TaskId) -> T:
    """The entry of a task. Raises TaskUnknown."""
    if task not in tasks:
        raise TaskUnknown(f"There is no task {task!r}.")
    return tasks[task]


def read_creations(log: EventLog, partition: int, *, operator: bytes | None) -> dict[TaskId, TaskCreated]:
    """The creation of each task in one partition of `tasks`; of several of one name the first counts."""
    return collect_creations(
        scan(log, TopicPartition(TASKS.name, partition)),
        operator,
        partitions=log.partitions,
        deployment=deployments.find(log, operator),
    )


def summarize(view: TaskView) -> dict[str, Any]:
    """A task as one JSON object."""
    created = view.created
    privacy = created.policy.privacy if created else None
    return {
        "task": view.task,
        "status": view.status,
        "partition": partition_of(view.task, created.partitions) if created else None,
        "parent": created.parent if created else None,
        "tier": created.policy.tier if created else None,
        "parameters": created.parameters if created else None,
        "version": view.version,
        "buffer": view.buffer_fill,
        "buffer_size": view.buffer_size,
        "rounds_pending": len(view.rounds_pending),
        "updates_admitted": view.admitted,
        "updates_zeroed": dict(sorted(view.zeroed.items())),
        "updates_refused": dict(sorted(view.refused.items())),
        "checkins_declined": dict(sorted(view.declined.items())),
        "staleness_mean": view.staleness_mean,
        "staleness_max": view.staleness_max,
        "leases_in_flight": view.leases_in_flight,
        "leases_expired": view.leases_expired,
        "leases_abandoned": dict(sorted(view.leases_abandoned.items())),
        "participations_max": view.participations_max,
        "devices_quarantined": len(view.quarantined),
        "quarantined": [
            {"device": one.device, "subject": one.subject or None, "rounds": [*one.rounds]}
            for _, one in sorted(view.quarantined.items())
        ],
        "rounds_abandoned": dict(sorted(view.abandoned.items())),
        "metrics": view.metrics,
        "scored_version": find_scored_version(view),
        "scores": tell_newest_scores(view),
        "device_metrics": view.device_metrics,
        "made_of": view.makeup.to_json() if view.makeup else {},
        "epsilon": view.epsilon,
        "delta": view.delta,
        "rho": view.rho,
        "rho_max": privacy.rho_max if privacy else None,
        "population_rho": view.population.rho_spent if view.population else None,
        "population_rho_max": view.population.rho_max if view.population else None,
    }


def _check_shards(log: EventLog, policy: Policy) -> None:
    # Policies are checked without a cluster; only here is it known how many partitions there are to spread over.
    if policy.shard_count > log.partitions:
        raise PolicyError(f"shards = {policy.shard_count}: this cluster has {log.partitions} partitions, one a shard")


def _check_is_free(log: EventLog, name: TaskId, *, operator: bytes) -> None:
    # A policy is never changed, so a second creation of the name would be ignored by every actor.
    if name in read_creations(log, partition_of(name, log.partitions), operator=operator):
        raise TaskExists(f"A task {name!r} exists already, and a policy never changes: choose another name.")


def _append_creation(log: EventLog, created: TaskCreated, *, key: Author) -> None:
    size = len(key.write(created))
    # Actors note the creation in their journals, whose records are bounded too.
    if size > TASK_BYTES_MAX:
        raise TaskTooLarge(
            f"{created.task!r} has {len(created.tensors)} tensors, and its description of {size} bytes is above "
            f"{TASK_BYTES_MAX}: give them shorter names, or join some."
        )
    _append(log, created, key=key)
    # Two operators can find the name free at the same moment; the order of the log decides between them.
    at = TopicPartition(TASKS.name, partition_of(created.task, log.partitions))
    read = partial(_find_creation, log, created.task, operator=key.public_key)
    if read_back(read, log=log, at=at, what=f"The creation of {created.task!r}") != created:
        raise TaskExists(
            f"Another operator created {created.task!r} at the same moment, and theirs came first: choose another name."
        )


def _find_creation(log: EventLog, task: TaskId, *, operator: bytes) -> TaskCreated | None:
    return read_creations(log, partition_of(task, log.partitions), operator=operator).get(task)


def _check_vectors(parent: TaskCreated, tensors: tuple[TensorSpec, ...], *, policy: Policy) -> None:
    """Nothing where a vector of the parent means the same in a task of these tensors. Raises ModelMismatch."""
    if parent.tensors != tensors:
        raise ModelMismatch(f"The model of {parent.task!r} has other tensors; create the task without a warm start.")
    before, now = parent.policy.parameters.averaged_scale, policy.parameters.averaged_scale
    # Averaged values stand in a vector times this.
    if before != now:
        raise ModelMismatch(
            f"parameters.averaged_scale = {now:g}, and that of {parent.task!r} is {before:g}: a warm start takes over "
            "values under the factor that they have."
        )


def fork(log: EventLog, origin: Branch, *, name: TaskId, key: Author, policy: Policy | None = None) -> TaskCreated:
    """A new task that starts from a version of another, by default with its policy.

    A private parent is closed, and all that it has spent until its halt counts, not only until that version: it was
    released. A parent without privacy may go on. Raises TaskUnknown, VersionUnknown, and what `create` raises.
    """
    parent = find_view(log, origin.task, operator=key.public_key)
    created = parent.created
    if created is None or origin.version not in parent.published:
        raise VersionUnknown(f"{origin.task!r} has no version {origin.version}; its newest is {parent.version}.")
    after: Predecessor | Branch = origin
    if created.policy.privacy is not None:
        after = Predecessor(task=origin.task, warm_start=True, version=origin.version)
    return create(log, name, key=key, policy=policy or created.policy, after=after)


def _start_with_branch(
    log: EventLog, branch: Branch, *, first: FirstModel, policy: Policy, operator: bytes
) -> FirstModel:
    parent = find_view(log, branch.task, operator=operator)
    assert parent.created is not None
    succession.check_privacy(parent.created, policy)
    if policy.measure is not None:
        raise ModelMismatch("A measurement starts from nothing; `fedlog measure` names the version that it measures.")
    # Its releases are paid for by a ledger that a branch beside it would not see.
    if parent.created.policy.privacy is not None:
        raise ModelMismatch(f"{branch.task!r} is private: only its successor starts from it.")
    _check_vectors(parent.created, first.tensors, policy=policy)
    return first.starting_with(*_read_model(log, parent, version=branch.version))


def _read_model(log: EventLog, parent: TaskView, *, version: Version | None) -> tuple[Floats, Floats | None]:
    """A model of the parent, by default its newest, as a flat vector, and what is frozen in it. Raises ModelGone."""
    from ops.operator import models

    assert parent.created is not None
    created = parent.created
    newest = parent.version if version is None else version
    model = created.model if newest is None else parent.published[newest].model
    vector, frozen = models.read(log, model, parameters=created.parameters), None
    if created.frozen is not None:
        frozen = models.read(log, created.frozen, parameters=count_elements(created.tensors, "frozen"))
    return vector, frozen


def _wait_until_halted(follower: Follower, view: TaskView, *, wait_s: float) -> None:
    give_up_s = time.monotonic() + wait_s
    while view.halted is None:
        if time.monotonic() > give_up_s:
            raise CloseUnnoticed(
                f"{view.task!r} is closed in the log, but its aggregator has not noticed within {wait_s:g} s "
                f"(journal {ROUNDS.name}). Until then its last participations are unknown."
            )
        # The aggregator answers in its own journal, so there is nothing to ask it directly.
        follower.poll(0.2)


def _require_creation(log: EventLog, task: TaskId, *, operator: bytes) -> TaskCreated:
    # The log never deletes tasks, so a misspelt name must not get into it.
    return require(read_creations(log, partition_of(task, log.partitions), operator=operator), task)


def _require_going_on(log: EventLog, task: TaskId, *, operator: bytes) -> None:
    # Actors ignore what is said of a task that is over, and whoever said it would wait.
    view = find_view(log, task, operator=operator)
    if view.is_over:
        raise TaskOver(f"{task!r} is over ({view.status}), for good: create another with --from {task}.")


def _find_next_number(log: EventLog, task: TaskId, *, operator: bytes) -> tuple[TaskCreated, int]:
    """The creation of a task, and a number above that of each of its pauses and resumes so far."""
    created = _require_creation(log, task, operator=operator)
    at = TopicPartition(TASKS.name, partition_of(task, log.partitions))
    events = (parse_task_event(record, operator) for record in scan(log, at))
    changes = (event for event in events if isinstance(event, TaskPaused | TaskResumed) and event.task == task)
    # The clock too, so that two operators at the same moment rarely choose one number, of which only one counts.
    return created, max(time.time_ns() // 1_000_000, 1 + max((change.number for change in changes), default=0))


def _append(log: EventLog, event: TaskEvent, *, key: Author) -> None:
    # The partition is chosen explicitly: it is the task's in every topic.
    name = event.population if isinstance(event, PopulationBudgetSet) else event.task
    place, value = partition_of(name, log.partitions), key.write(event)
    log.append([Draft(topic=TASKS.name, partition=place, value=value, key=name.encode())])
