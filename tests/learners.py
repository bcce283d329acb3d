"""Trainers for worlds in which nothing is learned: a delta from a function, and no data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from client_agent.learning.data import Part
from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Array, Arrays, Context, Parameter
from client_agent.learning.opening import TaskLearner, initialize, open_learner
from client_agent.learning.trainer import Trained
from ops.operator import first_models
from schemas.canonical import decode, encode
from schemas.events import TensorSpec
from schemas.policy import Policy
from schemas.tensors import Floats


class Train(Protocol):
    """Stands in for training: what it changes in `flat`."""

    def __call__(self, policy: Policy, flat: Floats, *, seed: int) -> Floats:
        """The delta, shape (parameters,)."""
        ...


def train_by_one(policy: Policy, flat: Floats, *, seed: int) -> Floats:
    """A delta that tells trainings apart by their seed."""
    del policy
    return np.random.default_rng(seed).normal(0, 1e-2, flat.size).astype(np.float32)


@dataclass(frozen=True)
class StubTrainer:
    """A trainer that calls a function."""

    function: Train = train_by_one
    sample_count: int = 7
    # What a real one would train on; it must not leave the device.
    data: Any = None

    def train(self, model: Model, context: Context) -> Trained:
        """The function's delta, and its mean size for whatever the policy wants reported."""
        delta = self.function(context.policy, model.vector, seed=context.seed)
        size = float(np.abs(delta).mean()) if delta.size else 0.0
        return Trained(delta=delta, metrics=dict.fromkeys(context.policy.evaluation.report, size))


class FlatLearner:
    """A learner of one flat array, for real devices that learn nothing: a policy names it with the array's length."""

    def __init__(self, parameters: int) -> None:
        self._parameters = parameters

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """Zeros, whatever the task starts from."""
        del seed
        return {"flat": np.zeros(self._parameters, np.float32)}

    def load(self, part: Part) -> list[int]:
        """Seven examples, which nobody looks at."""
        del part
        return [0] * 7

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """A delta by the seed, and its mean size for whatever the policy wants reported."""
        del data
        delta = train_by_one(context.policy, start["flat"], seed=context.seed)
        told = dict.fromkeys(context.policy.evaluation.report, float(np.abs(delta).mean()))
        return {"flat": start["flat"] + delta}, told

    def evaluate(self, parameters: Arrays, data: Any) -> dict[str, float]:
        """The sum of the array."""
        del data
        return {"sum": float(parameters["flat"].sum())}


class PersonalLearner(FlatLearner):
    """The same with an array of each device's own: how many examples it has, once it has trained."""

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """One more, which starts at zero."""
        return {**super().initialize(seed), "own": Parameter(np.zeros(1), "local")}

    def load(self, part: Part) -> list[int]:
        """One more than the device before it has."""
        return [0] * (part.index + 2)

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """The same, and its own array."""
        arrays, metrics = super().train(start, data, context=context)
        return {**arrays, "own": np.array([float(len(data))])}, metrics

    def evaluate(self, parameters: Arrays, data: Any) -> dict[str, float]:
        """What its own array holds."""
        return {"sum": float(parameters["own"].sum())}


class TellingLearner(FlatLearner):
    """The same, and a training tells how many examples it had: one more than on the device before it."""

    def load(self, part: Part) -> list[int]:
        """From two on."""
        return [0] * (part.index + 2)

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """The same, and the number."""
        arrays, _ = super().train(start, data, context=context)
        return arrays, {"examples": float(len(data))}


FLAT_LEARNER = f"{__name__}:{FlatLearner.__name__}"
PERSONAL_LEARNER = f"{__name__}:{PersonalLearner.__name__}"
TELLING_LEARNER = f"{__name__}:{TellingLearner.__name__}"


# --- the torch learner with arrays at hand, as tests and measurements have them ------------------------------------


def initial(policy: Policy, seed: int = 0) -> tuple[tuple[TensorSpec, ...], Floats]:
    """The tensors of the policy's model, and its first vector."""
    first = first_models.make(policy, seed=seed)
    return first.tensors, first.vector


def train(policy: Policy, flat: Floats, *columns: Any, seed: int, version: int = 0) -> Floats:
    """What training on features and labels changes."""
    learner = _open(policy)
    context = Context(version=version, seed=seed, policy=policy)
    return learner.train(Model(flat), _convert(columns), context=context).delta


def evaluate(policy: Policy, flat: Floats, *columns: Any) -> dict[str, float]:
    """The metrics of a model on features and labels."""
    return _open(policy).evaluate(Model(flat), _convert(columns))


def _convert(columns: tuple[Any, ...]) -> Any:
    from client_agent.learning.pytorch.batches import convert

    return convert(columns, collate=None, where="the test's data")


def _open(policy: Policy) -> TaskLearner:
    return _open_encoded(encode(policy))


@lru_cache(maxsize=8)
def _open_encoded(policy: bytes) -> TaskLearner:
    rules = decode(policy, Policy)
    learner = open_learner(rules)
    parameters = initialize(learner, 0)
    return TaskLearner(learner, Layout.describe_parameters(parameters, averaged_scale=1.0), parameters)


class PairLearner(FlatLearner):
    """Two tensors of six elements, for tests of what an operator does; a score is the sum of all of them."""

    def __init__(self) -> None:
        super().__init__(6)

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """0 to 5."""
        del seed
        weight, bias = np.arange(4, dtype=np.float32).reshape(2, 2), np.arange(4, 6, dtype=np.float32)
        return {"weight": weight, "bias": bias}

    def load(self, part: Part) -> list[int]:
        """Three examples."""
        del part
        return [0] * 3

    def evaluate(self, parameters: Arrays, data: Any) -> dict[str, float]:
        """The sum of all elements."""
        del data
        return {"sum": float(sum(array.sum() for array in parameters.values()))}


PAIR_LEARNER = f"{__name__}:{PairLearner.__name__}"
