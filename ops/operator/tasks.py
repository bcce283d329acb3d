"""What an operator does to tasks: create, carry on from another, pause, resume, close. Each is one fact in `tasks`."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from ops.console import ConsoleError
from ops.history.projections import Follower, Projection, TaskView
from schemas.canonical import TASK_BYTES_MAX, encode
from schemas.creations import find_creation, parse_task_event
from schemas.events import TaskClosed, TaskCreated, TaskEvent, TaskPaused, TaskResumed
from schemas.identifiers import TaskId
from schemas.policy import Policy
from schemas.topics import PARTITIONS, ROUNDS, TASKS, partition_of
from streams.log import Draft, EventLog, TopicPartition, scan

CLOSE_WAIT_S = 30.0
VISIBLE_WAIT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The task that a new one carries on from: its creation, its end, and its newest model."""

    view: TaskView
    participations: int


def facts_of(log: EventLog, partition: int) -> list[TaskEvent]:
    """Every readable fact in one partition of `tasks`."""
    events = (parse_task_event(record.value) for record in scan(log, TopicPartition(TASKS.name, partition)))
    return [event for event in events if event is not None]


def existing(log: EventLog, task: TaskId) -> TaskCreated:
    """The creation of a task. Raises ConsoleError when there is no such task."""
    found = creation_of(log, task)
    if found is None:
        raise ConsoleError(f"There is no task {task!r}. `fedlog task list` shows those that exist.")
    return found


def creation_of(log: EventLog, task: TaskId) -> TaskCreated | None:
    """The first TaskCreated of that name; a later one counts for nothing."""
    place = TopicPartition(TASKS.name, partition_of(task))
    return find_creation((record.value for record in scan(log, place)), task)


def say_of(log: EventLog, fact: TaskPaused | TaskResumed | TaskClosed) -> None:
    """Append the fact. Raises ConsoleError when the task does not exist."""
    existing(log, fact.task)
    _append(log, fact)


def create(
    log: EventLog, task: TaskId, *, policy: Policy, parent: Parent | None = None, warm: bool = False
) -> TaskCreated:
    """Store the first model and append TaskCreated. Raises ConsoleError when the name is taken."""
    from client_agent.learning import classification as training
    from ops.operator import models as weights

    if creation_of(log, task) is not None:
        raise ConsoleError(f"A task {task!r} exists already, and a policy never changes: choose another name.")
    tensors, flat = training.initial(policy)
    if warm:
        flat = _model_of(log, parent, tensors=tensors)
    created = TaskCreated(
        task=task,
        policy=policy,
        policy_sha256=hashlib.sha256(encode(policy)).digest(),
        tensors=tensors,
        parameters=int(flat.size),
        weights=policy.weights(),
        model=weights.store(log, flat, partition=partition_of(task)),
        parent=parent.view.task if parent else None,
        participations_before=parent.participations if parent else 0,
    )
    if (size := len(encode(created))) > TASK_BYTES_MAX:
        raise ConsoleError(
            f"{task!r} has {len(tensors)} tensors, and its description of {size} bytes is above {TASK_BYTES_MAX}: "
            "give them shorter names, or join some."
        )
    _append(log, created)
    if _first(log, task) != created:
        raise ConsoleError(
            f"Somebody else created {task!r} at the same moment, and theirs stands: choose another name."
        )
    return created


def _model_of(log: EventLog, parent: Parent | None, *, tensors: tuple[Any, ...]) -> Any:
    """The parent's newest model as a flat vector. Raises ConsoleError where it does not fit."""
    from ops.operator import models as weights

    if parent is None or parent.view.created is None:
        raise ConsoleError("--warm-start takes a model over from another task: name that with --from.")
    if parent.view.created.tensors != tensors:
        raise ConsoleError(
            f"The model of {parent.view.task!r} has other tensors; create the task without --warm-start."
        )
    version = parent.view.version
    ref = parent.view.created.model if version is None else parent.view.published[version].model
    return weights.read(log, ref, parameters=parent.view.created.parameters)


def carried_on(log: EventLog, old: TaskId, *, wait_s: float = CLOSE_WAIT_S) -> Parent:
    """Close `old` and wait until its aggregator has noticed. Raises ConsoleError when that takes too long.

    A task has at most one successor: two would each start from the same participations and spend them twice.
    """
    created = existing(log, old)
    for partition in range(PARTITIONS):
        for fact in facts_of(log, partition):
            if isinstance(fact, TaskCreated) and fact.parent == old:
                raise ConsoleError(f"{fact.task!r} already carries on from {old!r}: take --from {fact.task}.")
    projection = Projection()
    with Follower(log, projection, partitions=[partition_of(old)]) as follower:
        view = follower.catch_up().view(old)
        if not view.closed and view.halted is None:
            _append(log, TaskClosed(task=old))
        give_up = time.monotonic() + wait_s
        while view.halted is None:
            if time.monotonic() > give_up:
                raise ConsoleError(
                    f"{old!r} is closed in the log, but its aggregator has not noticed within {wait_s:g} s (topic "
                    f"{ROUNDS.name}, partition {partition_of(old)}). Until then its last participations are not known. "
                    "Start `fedlog worker aggregator`, then give the same command again."
                )
            follower.poll(0.2)
    return Parent(view=_with_creation(view, created), participations=view.participations_max)


def _with_creation(view: TaskView, created: TaskCreated) -> TaskView:
    view.created = view.created or created
    return view


def _first(log: EventLog, task: TaskId) -> TaskCreated | None:
    """The creation that counts, once one can be read: an acknowledged record is not readable at once."""
    give_up = time.monotonic() + VISIBLE_WAIT_S
    while (found := creation_of(log, task)) is None and time.monotonic() < give_up:
        time.sleep(0.05)
    return found


def _append(log: EventLog, fact: TaskEvent) -> None:
    draft = Draft(topic=TASKS.name, partition=partition_of(fact.task), value=encode(fact), key=fact.task.encode())
    log.append([draft])
