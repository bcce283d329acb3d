"""Orders to a rollout: signed into `tasks`, passed on by the aggregator, decided by the rollout, and waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from actors.keys import Author
from ops.history.releasing.standing import Standing, Step, read_standing
from ops.operator import deployments
from ops.operator.errors import OrderUnnoticed, RolloutMissing, RolloutOrderRefused
from ops.operator.tasks import read_creations, require
from schemas.certificates import Trust
from schemas.creations import parse_task_event
from schemas.events import OrderRefusal, OrderRefused, RolloutAction, RolloutOrdered, TaskCreated
from schemas.identifiers import TaskId, Version
from schemas.policy import Rollout
from schemas.topics import TASKS, partition_of
from streams.log import Draft, EventLog, TopicPartition, scan

WAIT_S = 30.0
POLL_S = 0.2
_WHY: dict[OrderRefusal, str] = {
    "gone": "its model may be deleted; sure are the newest retention.models_kept, and what the rollout holds",
    "unpublished": "there is no such version",
    "no_candidate": "there is no candidate",
    "nothing_to_roll_back": "nothing is promoted, and nothing is tried",
    "other_version": "that is neither the candidate nor what is promoted without one",
}


def show(log: EventLog, task: TaskId, *, operator: bytes | None) -> Standing:
    """Where the rollout of a task stands. Raises TaskUnknown, RolloutMissing."""
    _require_rollout(log, task, operator=operator)
    return read_standing(log, task, trust=_make_trust(log, operator))


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator wants; `version` where it is about one."""

    action: RolloutAction
    version: Version | None = None


def order(log: EventLog, task: TaskId, *, wish: Wish, key: Author, wait_s: float = WAIT_S) -> list[Step]:
    """Sign this order and wait until it is decided; what followed from it.

    Raises TaskUnknown, RolloutMissing, OrderUnnoticed, RolloutOrderRefused.
    """
    # Waited for in the rollout's journal, whose word it is: that the aggregator has passed it on says nothing yet.
    created, trust = _require_rollout(log, task, operator=key.public_key), _make_trust(log, key.public_key)
    number = _find_next_number(log, task, operator=key.public_key)
    wanted = RolloutOrdered(
        task=task,
        deployment=created.deployment,
        number=number,
        action=wish.action,
        version=wish.version,
        asked_by=key.asked_by,
    )
    place = partition_of(task, log.partitions)
    log.append([Draft(topic=TASKS.name, partition=place, value=key.write(wanted), key=task.encode())])
    # Folded anew each time: an order is rare, and a follower of one partition would be a reader more to look after.
    give_up_s = time.monotonic() + wait_s
    while (found := read_standing(log, task, trust=trust)).state is None or found.state.orders < number:
        if time.monotonic() > give_up_s:
            raise OrderUnnoticed(
                f"The order is signed, and the rollout of {task!r} has not decided it within {wait_s:g} s: it counts "
                "once `fedlog worker aggregator` and `fedlog worker rollout` run."
            )
        time.sleep(POLL_S)
    # By the whole order and not its number: another operator may have taken that, and then this one counts for nothing.
    followed = [step for step in found.steps if step.order == wanted]
    for step in followed:
        if isinstance(step.event, OrderRefused):
            raise RolloutOrderRefused(f"Nothing is changed: {_WHY[step.event.reason]}.")
    return followed


def _make_trust(log: EventLog, operator: bytes | None) -> Trust | None:
    return None if operator is None else Trust(operator, deployments.find(log, operator))


def _require_rollout(log: EventLog, task: TaskId, *, operator: bytes | None) -> TaskCreated:
    # Asked before anything is signed: the aggregator passes no order on to a rollout that is not there.
    created = require(read_creations(log, partition_of(task, log.partitions), operator=operator), task)
    if not isinstance(created.policy.rollout, Rollout):
        raise RolloutMissing(
            f"{task!r} has no table [rollout] in its policy: its newest version is the one to use. Another policy is "
            f"another task: `fedlog task create POLICY.toml --name NAME --from {task}`."
        )
    return created


def _find_next_number(log: EventLog, task: TaskId, *, operator: bytes) -> int:
    at = TopicPartition(TASKS.name, partition_of(task, log.partitions))
    before = (each.number for each in _read_orders(log, at, operator=operator) if each.task == task)
    # The clock too, so that two operators at the same moment rarely choose one number, of which only one counts.
    return max(time.time_ns() // 1_000_000, 1 + max(before, default=0))


def _read_orders(log: EventLog, at: TopicPartition, *, operator: bytes) -> Iterator[RolloutOrdered]:
    events = (parse_task_event(record, operator) for record in scan(log, at))
    return (event for event in events if isinstance(event, RolloutOrdered))
