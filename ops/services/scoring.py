"""One task at the evaluator: its learner, its held-out data and what is frozen of it, opened once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.layout import Model
from client_agent.learning.opening import TaskLearner, count_examples, open_task_learner
from client_agent.learning.sources import list_differences
from client_agent.running.watch import LOAD_S, Watch, until_scored
from client_agent.running.work import check_size, choose_data
from ops.services.cohorts import find_cohorts
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import TaskCreated
from schemas.identifiers import BodyRef, Cohort
from schemas.tensors import Floats

T = TypeVar("T")

logger = structlog.get_logger(__name__)


class DataUnnamed(FedlogError):
    """Neither the policy nor an option says which data score the task."""

    exit_code = EXIT_USAGE
    code = "data_unnamed"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the code of a task may be at work at a time: `limit_s`, where there is a watch.

    `aside` has the tasks whose code was at work for longer, and what was said of it.
    """

    watch: Watch | None = None
    limit_s: float = LOAD_S
    aside: dict[str, str] = field(default_factory=dict)

    def run(self, function: Callable[[], T], *, task: str, doing: str) -> T:
        """The result of `function`. Raises TookTooLong."""
        if self.watch is None:
            return function()
        return self.watch.watch(function, until_scored(task, doing=doing, limit_s=self.limit_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The metrics of a version on the examples of one cohort; on all of them where it has no name."""

    cohort: Cohort
    metrics: dict[str, float]
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """Scores versions of one task, on all examples and on those of each cohort."""

    task: str
    learner: TaskLearner
    data: Sized
    frozen: Floats | None
    patience: Patience
    cohorts: Mapping[Cohort, Sized] = field(default_factory=dict)

    def score(self, vector: Floats) -> list[Score]:
        """What a version scores: its cohorts, and all together last.

        Raises LearnerError where one of them has no finite metric, PluginError, TookTooLong.
        """
        model = Model(vector, self.frozen)
        parts = {**self.cohorts, "": self.data}
        return [self._score(model, data, cohort=cohort) for cohort, data in parts.items()]

    def _score(self, model: Model, data: Sized, *, cohort: Cohort) -> Score:
        doing = f"evaluation of cohort {cohort!r}" if cohort else "evaluation"
        metrics = self.patience.run(partial(self.learner.evaluate, model, data), task=self.task, doing=doing)
        # An event takes finite numbers only, and any other in place of NaN could meet a task's target.
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if not finite:
            raise LearnerError(f"the {doing} gave no finite metric, but {metrics}")
        return Score(cohort=cohort, metrics=finite, samples=count_examples(data))


def open_scorer(
    created: TaskCreated,
    *,
    allowed: AllowList,
    data: str,
    fetch: Callable[[BodyRef, int], Floats],
    patience: Patience,
) -> Scorer:
    """The scorer of a task; `data` is what an option names.

    Raises PluginError, DataUnnamed, TookTooLong, what `fetch` raises.
    """
    # The policy comes from the log, and what it names may be anybody's code.
    allowed.check_policy(created.policy)
    plugin = choose_data(created.policy.data, data)
    if not plugin and not created.policy.learner:
        raise DataUnnamed(
            f"the policy of {created.task!r} names no data: score it with --task {created.task} --data MODULE:CALLABLE"
        )
    check_size(created)
    task = created.task
    # Importing a framework takes long on a busy machine, whatever scoring may take.
    making = replace(patience, limit_s=max(patience.limit_s, LOAD_S))
    learner = making.run(partial(open_task_learner, created), task=task, doing="making the model")
    if differing := list_differences(created):
        logger.warning("source_differs", task=created.task, plugins=differing)
    if own := [name for name, array in learner.local.items() if np.issubdtype(array.dtype, np.floating)]:
        logger.warning("scored_as_untrained", task=task, own_arrays=own[:5], ask_devices=f"fedlog measure {task}")
    # Once a task: what is frozen is the same in every version.
    frozen = None if created.frozen is None else fetch(created.frozen, learner.layout.frozen_size)
    load = partial(learner.load, Part(split="test", seed=created.policy.drawn_by.split, plugin=plugin))
    loader = f"{created.policy.learner}.load" if created.policy.learner and not plugin else plugin
    examples = patience.run(load, task=task, doing=f"loading data with {loader!r}")
    take_apart = partial(_take_apart, learner, examples, named_by=created.policy.evaluation.cohort or "")
    cohorts = patience.run(take_apart, task=task, doing="naming cohorts")
    return Scorer(task=task, learner=learner, data=examples, frozen=frozen, patience=patience, cohorts=cohorts)


def _take_apart(learner: TaskLearner, examples: Sized, *, named_by: str) -> dict[Cohort, Sized]:
    """The examples of each cohort, once for all versions."""
    if not named_by:
        return {}
    given, count = learner.read_given(examples), count_examples(examples)
    # Values of a user's table can raise at a mere comparison.
    places = call(f"the cohorts of {named_by!r}", find_cohorts, given, named_by, count=count)
    return {cohort: learner.subset(examples, its) for cohort, its in places.items()}
