"""Whether a task may begin, and which score ends it: at its target, or because its model got lost or worse.

A model has diverged by what was released and by its score, and by nothing that devices say: with privacy their failures
are in no event, and without it no single one may end a task.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET

from actors.deciders.aggregator_state import Rounds, Task
from actors.deciders.populations.budgets import NOBODY, find_budget, is_exhausted
from actors.deciders.populations.settings import may_be_succeeded, may_share
from actors.deciders.rollout.held import Claim, find_window
from actors.deciders.scores import LOSS, Rule, has_diverged, meets_target
from schemas.events import HaltReason, ModelPublished, TaskCreated, TaskSucceeded, VersionEvaluated


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


def describe_first(created: TaskCreated) -> ModelPublished:
    """Version 0: the operator's own model, of no round."""
    return ModelPublished(
        task=created.task,
        version=0,
        round=None,
        model=created.model,
        moments=None,
        members_root=None,
        members=0,
        awaits_helpers=created.policy.is_masked or UNSET,
    )


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


class Heard(NamedTuple):
    """A score on which decisions rest, and why its task ends with it, where it does."""

    task: Task
    reason: HaltReason | None


def hear_score(state: Rounds, evaluated: VersionEvaluated) -> Heard | None:
    """What a score decides; None for one that nothing rests on, now or later."""
    task = state.tasks.get(evaluated.task)
    # A score of a version that does not exist is of another log, or of nothing; that of a cohort ends no task.
    if task is None or evaluated.cohort or evaluated.version > task.version:
        return None
    if task.standing is UNSET and task.status == "halted" and not task.pending:
        return None
    return _hear_alone(task, evaluated) if task.standing is UNSET else _hear_voice(state, evaluated, task=task)


def _hear_alone(task: Task, evaluated: VersionEvaluated) -> Heard | None:
    """Without a quorum each score stands for itself; what devices say of themselves is none."""
    if evaluated.source is not UNSET:
        return None
    if task.ending is None and meets_target(task.created.policy, evaluated.metrics):
        return Heard(task, "target")
    if task.ending is None and has_diverged(evaluated.metrics, task.first_loss):
        return Heard(task, "diverged")
    # With that of the operator's own model later ones are compared.
    is_first = evaluated.version == 0 and task.first_loss is None and LOSS in evaluated.metrics
    return Heard(task, None) if is_first else None


def _hear_voice(state: Rounds, evaluated: VersionEvaluated, *, task: Task) -> Heard | None:
    """With a quorum a score is one voice, which is kept, and may make the score of its version final."""
    policy = task.created.policy
    assert task.standing is not UNSET
    # Of a version whose body is gone nothing is left to score.
    if evaluated.version not in task.published:
        return None
    if not task.standing.scores.is_new(evaluated, Rule.read(policy)):
        return None
    if evaluated.source is not UNSET and not _is_released(state, evaluated):
        return None
    # Evaluators are behind a task that has ended, and its last version needs a final score all the same.
    if task.ending is not None or task.status == "halted":
        return Heard(task, None)
    standing = task.standing.with_voice(evaluated, policy)
    return Heard(task, standing.judge(evaluated.version, policy, first_loss=task.first_loss))


def _is_released(state: Rounds, evaluated: VersionEvaluated) -> bool:
    """Whether the measure task that a score names measures this version, and has published what it found."""
    source = state.tasks.get(evaluated.source or "")
    subject = source.created.subject if source is not None else None
    if source is None or subject is None or source.version < 1:
        return False
    return (subject.task, subject.version) == (evaluated.task, evaluated.version)


def is_held_for(state: Rounds, fact: Claim) -> bool:
    """Whether a rollout's step, or an order to it, is noted: of a task that is rolled out, also when it is over."""
    task = state.tasks.get(fact.task)
    return task is not None and task.held is not UNSET and task.held.is_heard(fact, find_window(task))
