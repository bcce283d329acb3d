"""A rollout's decider with a task: versions that are published and scored, orders, and time that passes."""

from __future__ import annotations

from typing import Any

from actors.deciders.rollout import Rollouts, make_decider
from actors.deciders.rollout.state import Task
from schemas.events import (
    CandidateStaged,
    Evidence,
    Noticed,
    RolloutAction,
    Tick,
    VersionEvaluated,
)
from schemas.identifiers import BodyRef
from schemas.policy import Policy
from tests.worlds.builders import TASK, model_published, policy, task_created
from tests.worlds.releasing.orders import rollout_ordered
from tests.worlds.specification import Situation, given

ANN, BOB, EVE = ("a" * 16, "b" * 16, "e" * 16)
HOLD_MS, PATIENCE_MS = 60_000, 600_000
# Two stages of a minute each; no version may lose more than a hundredth of its accuracy, and none may have under 0.5.
RULES: dict[str, Any] = {
    "stages": [{"share": 0.05, "cohorts": ["lab"], "hold_s": 60.0}, {"share": 0.5, "hold_s": 60.0}],
    "gates": [{"metric": "accuracy", "at_least": 0.5, "drop_max": 0.01}],
    "patience_s": 600.0,
}


def rollout_policy(*, evaluation: dict[str, Any] | None = None, kept: int = 30, **rules: Any) -> Policy:
    """A task that is rolled out by RULES, with other values for some."""
    return policy(
        rollout={**RULES, **rules},
        retention={"models_kept": kept},
        staleness={"max_versions": 1},
        evaluation=evaluation or {},
    )


published = model_published


def model_of(version: int) -> BodyRef:
    """Where the model of a version stands."""
    return published(version).model


def score(version: int, accuracy: float, *, cohort: str = "", by: str = ANN, samples: int = 100) -> VersionEvaluated:
    """What an evaluator says."""
    metrics = {"accuracy": accuracy, "loss": 1.0}
    return VersionEvaluated(task=TASK, version=version, metrics=metrics, samples=samples, cohort=cohort, evaluator=by)


def proof(version: int, accuracy: float, *, cohort: str = "", by: str = ANN) -> Evidence:
    """The same as a decision names it."""
    return Evidence(version=version, cohort=cohort, evaluator=by, metric="accuracy", value=accuracy, samples=100)


def order(action: RolloutAction, version: int | None = None, *, number: int = 1) -> Noticed:
    """What the operator orders, as the aggregator passes it on."""
    return Noticed(fact=rollout_ordered(TASK, action, version=version, number=number))


def kept(version: int, previous: int | None = None) -> Noticed:
    """That the aggregator keeps the model of a candidate."""
    return Noticed(fact=CandidateStaged(task=TASK, version=version, previous=previous))


def rolled_out(rules: Policy | None = None) -> Situation[Rollouts]:
    """A task, and its version 0."""
    created = task_created(rules or rollout_policy())
    return given(make_decider(b""), Noticed(fact=created)).when(published(0))


def promote_first(rules: Policy | None = None, accuracy: float = 0.9) -> Situation[Rollouts]:
    """The same with version 1 promoted through all stages."""
    begun = rolled_out(rules).when(published(1), score(1, accuracy, cohort="lab"), score(1, accuracy), kept(1))
    for _ in (rules or rollout_policy()).rollout.stages:  # type: ignore[union-attr]
        begun.at(begun.time_ms + HOLD_MS).when(Tick())
    assert find_task(begun).promoted == 1
    return begun


def find_task(situation: Situation[Rollouts]) -> Task:
    """What is known of the task."""
    return situation.state.tasks[TASK]
