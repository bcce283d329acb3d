"""What the operator orders: promote, roll back, halt, resume, approve; or why an order changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from msgspec import UNSET, UnsetType

from actors.deciders.rollout.gates import list_evidence
from actors.deciders.rollout.state import Task
from schemas.events import (
    DriftFound,
    Evidence,
    JournalEvent,
    OrderRefusal,
    OrderRefused,
    Promoted,
    RollbackReason,
    RolledBack,
    RolloutHalted,
    RolloutOrdered,
    RolloutResumed,
)


def obey(task: Task, order: RolloutOrdered) -> Iterator[JournalEvent]:
    """What follows at once from an order that is new."""
    if (reason := why_refused(task, order)) is not None:
        yield OrderRefused(task=order.task, number=order.number, action=order.action, reason=reason)
        return
    match order.action:
        case "promote" if order.version is not None and order.version != task.promoted:
            if task.candidate is not None and task.candidate.version != order.version:
                # First, so that there are never two that devices may be given beside what is promoted.
                yield roll_back(task, task.candidate.version, reason="superseded")
            yield promote(task, order.version, evidence=list_evidence(task, order.version))
        case "rollback":
            yield roll_back(task, _find_newest(task), reason="ordered")
        case "halt" if not task.is_halted:
            yield halt(task, _find_newest(task), reason="ordered")
        case "resume" if task.is_halted:
            yield RolloutResumed(task=order.task)


def why_refused(task: Task, order: RolloutOrdered) -> OrderRefusal | None:
    """Why an order changes nothing; None where it does, or where things are so already."""
    match order.action:
        case "promote":
            if order.version is None or order.version > task.newest:
                return "unpublished"
            return None if order.version in task.models else "gone"
        case "rollback":
            # By number where one is given, because another version may have come while the operator was typing.
            newest = _find_newest(task)
            if newest is None:
                return "nothing_to_roll_back"
            return None if order.version in (None, newest) else "other_version"
        case "approve":
            if task.candidate is None:
                return "no_candidate"
            return None if order.version in (None, task.candidate.version) else "other_version"
    return None


def _find_newest(task: Task) -> int | None:
    """What a rollback is of: the candidate, or else what is promoted."""
    return task.candidate.version if task.candidate is not None else task.promoted


def halt(
    task: Task,
    version: int | None,
    *,
    reason: Literal["disagreement", "ordered"],
    evidence: tuple[Evidence, ...] = (),
) -> RolloutHalted:
    """Nothing moves any more; what is promoted stays."""
    return RolloutHalted(
        task=task.created.task,
        version=version,
        reason=reason,
        evidence=evidence,
    )


def promote(task: Task, version: int, *, evidence: tuple[Evidence, ...]) -> Promoted:
    """Everybody gets the version."""
    return Promoted(
        task=task.created.task,
        version=version,
        previous=task.promoted,
        evidence=evidence,
        model=task.models[version],
    )


def roll_back(
    task: Task,
    version: int | None,
    *,
    reason: RollbackReason,
    evidence: tuple[Evidence, ...] = (),
    drift: DriftFound | UnsetType = UNSET,
) -> RolledBack:
    """Nobody gets the version any more: of a candidate the promoted one counts, of that the one promoted before."""
    assert version is not None
    is_candidate = task.candidate is not None and task.candidate.version == version
    to = task.promoted if is_candidate else task.previous
    return RolledBack(
        task=task.created.task,
        version=version,
        to=to,
        reason=reason,
        evidence=evidence,
        model=None if to is None else task.models[to],
        drift=drift,
    )
