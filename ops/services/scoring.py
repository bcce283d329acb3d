"""One task at the evaluator: its learner, its held-out data and what is frozen of it, opened once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np
import structlog

from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import Model
from client_agent.learning.opening import TaskLearner, count_examples, open_task_learner
from client_agent.learning.sources import list_differences
from client_agent.running.watch import LOAD_S, Watch, until_scored
from client_agent.running.work import check_size, choose_data
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import TaskCreated
from schemas.identifiers import BodyRef
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
class Scorer:
    """Scores versions of one task."""

    task: str
    learner: TaskLearner
    data: Sized
    frozen: Floats | None
    patience: Patience

    @property
    def sample_count(self) -> int:
        """How many held-out examples there are."""
        return count_examples(self.data)

    def score(self, vector: Floats) -> dict[str, float]:
        """The metrics of a version that are finite. Raises LearnerError where there is none, PluginError."""
        evaluate = partial(self.learner.evaluate, Model(vector, self.frozen), self.data)
        metrics = self.patience.run(evaluate, task=self.task, doing="evaluation")
        # An event takes finite numbers only, and any other in place of NaN could meet a task's target.
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if not finite:
            raise LearnerError(f"the evaluation gave no finite metric, but {metrics}")
        return finite


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
    return Scorer(task=task, learner=learner, data=examples, frozen=frozen, patience=patience)
