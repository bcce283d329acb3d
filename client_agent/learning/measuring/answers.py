"""A question at work on one task: the policy's plugin, the model that is measured, and the bounds of each statistic.

A plugin is called as `plugin(parameters, data, context=context, **plugin_arguments)`, and gives an array for each
statistic of the policy, by name. `parameters` are the arrays of the measured version, and empty where the policy names
none; `data` are what the policy's learner loads, or what the data plugin gives where it names no learner or model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from client_agent.learning.data import DataError, Part
from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Context
from client_agent.learning.opening import TaskLearner, check_size, count_examples, initialize, open_learner
from client_agent.learning.plugins import resolve
from client_agent.learning.trainer import Trained
from schemas.events import TaskCreated
from schemas.policy import Measure, Policy, Statistic
from schemas.tensors import Floats

Plugin = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class TaskMeasurement:
    """What devices answer under one task. `layout` is that of the measured model, `learner` the policy's own."""

    measure: Measure
    plugin: Plugin
    layout: Layout | None
    learner: TaskLearner | None

    def make_trainer(self, part: Part) -> MeasureTrainer:
        """The question with the examples of a device, of which there may be none. Raises DataError."""
        if self.learner is not None:
            data: Any = self.learner.load(part)
            return MeasureTrainer(self, data, count_examples(data))
        data = part.read()
        return MeasureTrainer(self, data, _count_examples(data, where=str(part)))

    def answer(self, model: Model, data: Any, *, context: Context) -> Trained:
        """The answer as shares of the bounds, shape (parameters,). Raises LearnerError, ModelError."""
        # Whatever was released since: a question is about the version that its policy names.
        parameters = {} if self.layout is None else self.layout.split(model)
        if self.learner is not None:
            # A personal head answers as this device has it.
            parameters = {**self.learner.find_local(context.measured), **parameters}
            context = replace(context, learner=self.learner.learner)
        answer = call(
            f"measure.plugin {self.measure.plugin!r}",
            self.plugin,
            parameters,
            data,
            context=context,
            **self.measure.plugin_arguments,
        )
        # What it gave is the user's code as well: a mapping or an array of its own can raise anything.
        shares = call(f"the answer of measure.plugin {self.measure.plugin!r}", to_shares, answer, self.measure)
        return Trained(delta=shares, state=dict(context.state))


@dataclass(frozen=True, slots=True)
class MeasureTrainer:
    """A `Trainer` that trains nothing: the question of a task, with the examples of one device."""

    measurement: TaskMeasurement
    data: Any
    sample_count: int

    def train(self, model: Model, context: Context) -> Trained:
        """The answer. Raises LearnerError, ModelError."""
        return self.measurement.answer(model, self.data, context=context)


def open_measurement(created: TaskCreated) -> TaskMeasurement:
    """The question of a measure task; what it names must be allowed. Raises PluginError, ModelError."""
    policy, layout = created.policy, Layout.read_task(created) if created.subject else None
    assert policy.measure is not None
    return TaskMeasurement(policy.measure, resolve(policy.measure.plugin), layout, open_own_learner(policy, layout))


def open_own_learner(policy: Policy, layout: Layout | None) -> TaskLearner | None:
    """The policy's learner, whose model is the measured one where there is one. Raises PluginError, ModelError."""
    if not (policy.learner or policy.model):
        return None
    learner = open_learner(policy)
    if layout is None:
        # It only loads data: nobody has said how large a model it would make.
        return TaskLearner(learner, Layout(()), {})
    check_size(learner, layout)
    parameters = initialize(learner, policy.drawn_by.model)
    layout.check(parameters)
    return TaskLearner(learner, layout, parameters)


def to_shares(answer: Any, measure: Measure) -> Floats:
    """The vector of an answer: each element cut to its bound, and as a share of it. Raises LearnerError."""
    named = _check_names(answer, measure)
    parts = [_to_shares(name, named[name], asked=asked) for name, asked in measure.statistics.items()]
    return np.concatenate(parts)


def _check_names(answer: Any, measure: Measure) -> Mapping[str, Any]:
    where = f"measure.plugin {measure.plugin!r}"
    if not isinstance(answer, Mapping):
        raise LearnerError(f"{where} gave {type(answer).__name__}, expected arrays by name: {list(measure.statistics)}")
    if missing := [name for name in measure.statistics if name not in answer]:
        raise LearnerError(f"{where} gave no {missing[:5]}, only {sorted(map(str, answer))[:8]}")
    # A misspelt name would otherwise go unnoticed, and what the policy does not name must not leave the device.
    if surplus := sorted(str(name) for name in answer if name not in measure.statistics):
        raise LearnerError(f"{where} gave {surplus[:5]}, which the policy's [measure.statistics] does not ask for")
    return answer


def _to_shares(name: str, given: Any, *, asked: Statistic) -> Floats:
    try:
        raw = np.asarray(given)
        # Numpy would read texts as numbers, and drop what is imaginary.
        if raw.dtype.kind in "USMmc":
            raise TypeError(f"values of type {raw.dtype}")
        array = raw.astype(np.float64)
    # A tensor of another framework says in its own kind of error why it becomes no array.
    except Exception as error:
        raise LearnerError(f"statistic {name!r} is no array of numbers ({error})") from error
    if array.shape != asked.shape:
        raise LearnerError(f"statistic {name!r} has shape {array.shape}, the policy asks for {asked.shape}")
    if np.isnan(array).any():
        raise LearnerError(f"statistic {name!r} holds NaN; nothing is sent")
    # In float64 before the one rounding, so that a count divided by a power of two stays exact.
    return (np.clip(array, -asked.bound, asked.bound) / asked.bound).astype(np.float32).reshape(-1)


def _count_examples(data: Any, *, where: str) -> int:
    try:
        return count_examples(data)
    except TypeError as error:
        raise DataError(f"{where}: {type(data).__name__}, expected something with a length") from error
