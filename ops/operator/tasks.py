"""What an operator does to tasks: create, pause, resume, close, look at. Each change is one event in `tasks`.

Called by the commands `fedlog task`, by the demo, and by anything else that has an open log.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from ops.operator.errors import (
    CloseUnnoticed,
    ModelMismatch,
    SuccessorExists,
    TaskExists,
    TaskNameInvalid,
    TaskTooLarge,
    TaskUnknown,
)
from schemas.canonical import TASK_BYTES_MAX, encode
from schemas.creations import collect_creations
from schemas.events import TaskClosed, TaskCreated, TaskEvent, TaskPaused, TaskResumed, TensorSpec
from schemas.identifiers import TaskId
from schemas.policy import Policy
from schemas.topics import PARTITIONS, ROUNDS, TASKS, partition_of
from streams.log import Draft, EventLog, TopicPartition, scan

if TYPE_CHECKING:
    from schemas.tensors import Floats

CLOSE_WAIT_S = 30.0
VISIBLE_WAIT_S = 10.0
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The task that a new one carries on from: its participations count, with `warm_start` its newest model too.

    It is closed first; `wait_s` is how long its aggregator may take to notice that.
    """

    task: TaskId
    warm_start: bool = False
    wait_s: float = CLOSE_WAIT_S


def create(log: EventLog, name: TaskId, *, policy: Policy, after: Predecessor | None = None) -> TaskCreated:
    """Store the first model and append TaskCreated.

    Raises TaskNameInvalid, TaskExists, TaskTooLarge; with `after` also TaskUnknown, SuccessorExists, CloseUnnoticed
    and ModelMismatch.
    """
    # numpy and torch come with these, and nothing else that an operator does to a task needs them.
    from client_agent.learning import classification
    from ops.operator import models

    check_name(name)
    _check_is_free(log, name)
    parent = None if after is None else close_and_wait(log, after.task, wait_s=after.wait_s)
    # The predecessor is closed before the model is made: nothing may be written for a task that cannot start.
    tensors, flat = classification.initial(policy)
    if parent is not None and after is not None and after.warm_start:
        flat = _read_newest_model(log, parent, tensors=tensors)
    created = TaskCreated(
        task=name,
        policy=policy,
        policy_sha256=hashlib.sha256(encode(policy)).digest(),
        tensors=tensors,
        parameters=int(flat.size),
        weights=policy.weights(),
        model=models.store(log, flat, partition=partition_of(name)),
        parent=parent.task if parent else None,
        participations_before=parent.participations_max if parent else 0,
    )
    _append_creation(log, created)
    return created


def check_name(name: TaskId) -> None:
    """Raises TaskNameInvalid for a name that a new task must not have."""
    if not NAME.fullmatch(name):
        raise TaskNameInvalid(f"{name!r} is no name of a task: lower-case letters, digits and dashes, at most 63.")


def pause(log: EventLog, task: TaskId) -> None:
    """Grant no new leases; updates under way are still admitted. Raises TaskUnknown."""
    _append_change(log, TaskPaused(task=task))


def resume(log: EventLog, task: TaskId) -> None:
    """Grant leases again. Raises TaskUnknown."""
    _append_change(log, TaskResumed(task=task))


def close(log: EventLog, task: TaskId) -> None:
    """End the task for good; its versions stay. Raises TaskUnknown."""
    _append_change(log, TaskClosed(task=task))


def close_and_wait(log: EventLog, task: TaskId, *, wait_s: float = CLOSE_WAIT_S) -> TaskView:
    """Close a task so that another can carry on from it; its view once the aggregator has noticed.

    Raises TaskUnknown, SuccessorExists and CloseUnnoticed.
    """
    created = require(read_creations(log, partition_of(task)), task)
    # Two successors would each start from the same participations and spend the same privacy budget twice.
    for partition in range(PARTITIONS):
        for other in read_creations(log, partition).values():
            if other.parent == task:
                raise SuccessorExists(f"{other.task!r} already carries on from {task!r}: carry on from {other.task!r}.")
    views = TaskViews()
    with Follower(log, views, partitions=[partition_of(task)]) as follower:
        follower.catch_up()
        view = views.view(task)
        if not view.closed and view.halted is None:
            _append(log, TaskClosed(task=task))
        _wait_until_halted(follower, view, wait_s=wait_s)
    # The aggregator's journal may lag behind `tasks`, where the creation was just read.
    view.created = view.created or created
    return view


def find_views(log: EventLog, partitions: Iterable[int] = range(PARTITIONS)) -> dict[TaskId, TaskView]:
    """The tasks of these partitions, as they stand at the present end of the log."""
    views = TaskViews()
    with Follower(log, views, partitions=partitions) as follower:
        follower.catch_up()
    return views.tasks


def find_view(log: EventLog, task: TaskId) -> TaskView:
    """One task as it stands at the present end of the log. Raises TaskUnknown."""
    return require(find_views(log, [partition_of(task)]), task)


def require(tasks: Mapping[TaskId, T], task: TaskId) -> T:
    """The entry of a task. Raises TaskUnknown."""
    if task not in tasks:
        raise TaskUnknown(f"There is no task {task!r}.")
    return tasks[task]


def read_creations(log: EventLog, partition: int) -> dict[TaskId, TaskCreated]:
    """The creation of each task in one partition of `tasks`; of several of one name the first counts."""
    return collect_creations(record.value for record in scan(log, TopicPartition(TASKS.name, partition)))


def summarize(view: TaskView) -> dict[str, Any]:
    """A task as one JSON object."""
    created = view.created
    privacy = created.policy.privacy if created else None
    return {
        "task": view.task,
        "status": view.status,
        "partition": partition_of(view.task),
        "parent": created.parent if created else None,
        "parameters": created.parameters if created else None,
        "version": view.version,
        "buffer": view.buffer_fill,
        "buffer_size": view.buffer_size,
        "rounds_pending": len(view.rounds_pending),
        "updates_admitted": view.admitted,
        "updates_zeroed": dict(view.zeroed),
        "updates_refused": dict(view.refused),
        "checkins_declined": dict(view.declined),
        "staleness_mean": view.staleness_mean,
        "staleness_max": view.staleness_max,
        "leases_in_flight": len(view.leases),
        "leases_expired": view.leases_expired,
        "participations_max": view.participations_max,
        "rounds_abandoned": dict(view.abandoned),
        "accuracy": view.metric,
        "epsilon": view.epsilon,
        "delta": view.delta,
        "rho": view.rho,
        "rho_max": privacy.rho_max if privacy else None,
    }


def _check_is_free(log: EventLog, name: TaskId) -> None:
    # A policy is never changed, so a second creation of the name would be ignored by every actor.
    if name in read_creations(log, partition_of(name)):
        raise TaskExists(f"A task {name!r} exists already, and a policy never changes: choose another name.")


def _append_creation(log: EventLog, created: TaskCreated) -> None:
    size = len(encode(created))
    # Actors note the creation in their journals, whose records are bounded too.
    if size > TASK_BYTES_MAX:
        raise TaskTooLarge(
            f"{created.task!r} has {len(created.tensors)} tensors, and its description of {size} bytes is above "
            f"{TASK_BYTES_MAX}: give them shorter names, or join some."
        )
    _append(log, created)
    # Two operators can find the name free at the same moment; the order of the log decides between them.
    if _wait_for_creation(log, created.task) != created:
        raise TaskExists(
            f"Another operator created {created.task!r} at the same moment, and theirs came first: choose another name."
        )


def _wait_for_creation(log: EventLog, task: TaskId) -> TaskCreated | None:
    """The creation that counts, once one can be read: an acknowledged record is not readable at once."""
    give_up_s = time.monotonic() + VISIBLE_WAIT_S
    while (found := read_creations(log, partition_of(task)).get(task)) is None and time.monotonic() < give_up_s:
        time.sleep(0.05)
    return found


def _read_newest_model(log: EventLog, parent: TaskView, *, tensors: tuple[TensorSpec, ...]) -> Floats:
    """The parent's newest model as a flat vector. Raises ModelMismatch, ModelGone."""
    from ops.operator import models

    assert parent.created is not None
    if parent.created.tensors != tensors:
        raise ModelMismatch(f"The model of {parent.task!r} has other tensors; create the task without a warm start.")
    model = parent.created.model if parent.version is None else parent.published[parent.version].model
    return models.read(log, model, parameters=parent.created.parameters)


def _wait_until_halted(follower: Follower, view: TaskView, *, wait_s: float) -> None:
    give_up_s = time.monotonic() + wait_s
    while view.halted is None:
        if time.monotonic() > give_up_s:
            raise CloseUnnoticed(
                f"{view.task!r} is closed in the log, but its aggregator has not noticed within {wait_s:g} s "
                f"({TopicPartition(ROUNDS.name, partition_of(view.task))}). Until then its last participations are "
                "unknown."
            )
        # The aggregator answers in its own journal, so there is nothing to ask it directly.
        follower.poll(0.2)


def _append_change(log: EventLog, event: TaskPaused | TaskResumed | TaskClosed) -> None:
    # The log never deletes tasks, so a misspelt name must not get into it.
    require(read_creations(log, partition_of(event.task)), event.task)
    _append(log, event)


def _append(log: EventLog, event: TaskEvent) -> None:
    # The partition is chosen explicitly: it is the task's in every topic.
    draft = Draft(topic=TASKS.name, partition=partition_of(event.task), value=encode(event), key=event.task.encode())
    log.append([draft])
