"""What a new task starts from: another task, a version of it, a file; who may, and what was spent. For `tasks`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from actors.keys import Author
from ops.history.task_view import TaskView
from ops.operator.errors import BudgetSpent, ParentUnprotected, SuccessorExists
from ops.operator.readback import read_back
from schemas.creations import find_successor
from schemas.events import TaskCreated, TaskSucceeded
from schemas.identifiers import TaskId, Version
from schemas.policy import Policy, Spending, compute_rho, count_affordable
from schemas.topics import TASKS, partition_of
from streams.log import Draft, EventLog, TopicPartition, scan

CLOSE_WAIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """The task that a new one carries on from: what it has spent counts, with `warm_start` its newest model too.

    It is claimed and closed first; `wait_s` is how long its aggregator may take to notice that. `version`: the one to
    start from, where that is not the newest; what was spent after it counts all the same.
    """

    task: TaskId
    warm_start: bool = False
    version: Version | None = None
    wait_s: float = CLOSE_WAIT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A version of a task without privacy, from which a new one starts while the task itself may go on."""

    task: TaskId
    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A file of weights, .pt, .npz or .safetensors, that a new task starts from."""

    path: Path


Start = Predecessor | Branch | Weights


def check_privacy(parent: TaskCreated, policy: Policy) -> None:
    """Raises ParentUnprotected where a task of this policy cannot carry on from its parent."""
    if policy.privacy is not None and parent.policy.privacy is None:
        raise ParentUnprotected(
            f"{parent.task!r} was trained without privacy: what it has released of its devices no budget can pay for. "
            "Begin a new task without --from."
        )


def claim(log: EventLog, parent: TaskCreated, *, successor: TaskId, key: Author) -> None:
    """Be the one that carries on from this task. Raises SuccessorExists where another was first, WriteHidden."""
    # Looked at first, so that a command that is given again adds nothing.
    if _find_claim(log, parent, key=key) is None:
        event = TaskSucceeded(
            task=parent.task, deployment=parent.deployment, successor=successor, asked_by=key.asked_by
        )
        value, place = key.write(event), partition_of(parent.task, log.partitions)
        log.append([Draft(topic=TASKS.name, partition=place, value=value, key=parent.task.encode())])
    at = TopicPartition(TASKS.name, partition_of(parent.task, log.partitions))
    # Two operators can both have found it free: the order of the log decides, once it can be read.
    found = read_back(partial(_find_claim, log, parent, key=key), log=log, at=at, what=f"The claim on {parent.task!r}")
    if found != successor:
        raise SuccessorExists(f"{found!r} already carries on from {parent.task!r}: carry on from {found!r}.")


def list_spent(parent: TaskView, policy: Policy) -> tuple[Spending, ...]:
    """What a closed parent and all before it have spent. Raises BudgetSpent where that leaves nothing of the policy."""
    assert parent.created is not None
    if policy.privacy is None:
        return ()
    spent = parent.created.list_spent(parent.participations_max)
    if count_affordable(policy.privacy.noise_multiplier, policy.privacy.rho_max, spent=spent) < 1:
        raise BudgetSpent(
            f"{parent.task!r} and the tasks before it have spent rho {float(compute_rho(spent)):g} of rho_max "
            f"{policy.privacy.rho_max:g}: not one participation is left. Give the policy a larger one, as with "
            "--set privacy.rho_max=…"
        )
    return spent


def _find_claim(log: EventLog, parent: TaskCreated, *, key: Author) -> TaskId | None:
    at = TopicPartition(TASKS.name, partition_of(parent.task, log.partitions))
    return find_successor(scan(log, at), parent.task, operator=key.public_key, deployment=parent.deployment)
