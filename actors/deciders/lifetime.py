"""Whether a task may begin, and which score ends it: at its target, or because it has lost its way.

A model has diverged by what was released and by its score, and by nothing that devices say: with privacy their failures
are in no event, and without it no single one may end a task.
"""

from __future__ import annotations

from actors.deciders.aggregator_state import Rounds, Task, meets_target
from actors.deciders.populations.budgets import NOBODY, find_budget, is_exhausted
from actors.deciders.populations.settings import may_be_succeeded, may_share
from schemas.events import HaltReason, TaskCreated, TaskSucceeded, VersionEvaluated

# A loss this many times the first model's, or this much where that was below one, is of a model that guesses far worse
# than one that has learnt nothing: noise and a bad round do not reach it, and no training comes back from it.
LOSS_FACTOR = 1_000.0
LOSS = "loss"


def may_begin(state: Rounds, created: TaskCreated) -> bool:
    """Whether a task carries on from its parent as it says; of a parent in another partition nothing is known here."""
    if not may_share(state.budgets, created):
        return False
    parent = state.tasks.get(created.parent or "")
    if parent is None:
        return True
    # The first claim counts, and what a parent has spent is not known before it has ended.
    if parent.successor != created.task or (parent.ending is None and parent.status != "halted"):
        return False
    spent = parent.created.list_spent(parent.participations_max)
    return created.policy.privacy is None or created.spent_before == spent


def may_succeed(state: Rounds, claim: TaskSucceeded) -> bool:
    """Whether a claim counts: it is the first, and leads nowhere where the budget of the population does not hold."""
    parent = state.tasks.get(claim.task)
    if parent is None or parent.successor is not None:
        return False
    return may_be_succeeded(state.budgets, claim.task, successor=claim.successor)


def is_starved(state: Rounds, task: Task) -> bool:
    """Whether nobody is left to fill the open round: others of its population have used up the devices.

    By its own cap a task uses up its devices itself, and looks when it proposes a round.
    """
    buffer = task.buffer
    if find_budget(state.budgets, task.created.task) is None or task.status != "open" or task.pending or buffer is None:
        return False
    used = task.exhausted + sum(not is_exhausted(state, task, unit=unit) for unit in buffer.members)
    # Where there is no room for one who has never come, there is none for anybody.
    left = 0 if is_exhausted(state, task, unit=NOBODY) else task.count_known() - used
    return left < task.created.policy.aggregation.members_min - len(buffer.members)


def judge_score(task: Task, evaluated: VersionEvaluated) -> HaltReason | None:
    """Why this score ends the task; None where it goes on."""
    # A score of a version that does not exist is of another log, or of nothing.
    if task.ending is not None or evaluated.version > task.version:
        return None
    if meets_target(task, evaluated):
        return "target"
    loss = evaluated.metrics.get(LOSS)
    if loss is None or task.first_loss is None:
        return None
    return "diverged" if loss > LOSS_FACTOR * max(task.first_loss, 1.0) else None


def is_first_score(task: Task, evaluated: VersionEvaluated) -> bool:
    """Whether it is what later scores are compared with: that of the operator's own model."""
    return evaluated.version == 0 and task.first_loss is None and LOSS in evaluated.metrics
