"""What learns on a device, whatever the framework: named numpy arrays in, named numpy arrays out.

A policy names a learner as a plugin, `learner = "my_module:MyLearner"`; it is called with `learner_arguments` and gives
an object with the four methods of `Learner`. Without one the torch learner serves. A small one, whole:

    class Mean:
        def initialize(self, seed): return {"mean": np.zeros(3)}
        def load(self, part): return read_rows(part.folder)
        def train(self, start, data, context): return {"mean": data.mean(axis=0)}, {}
        def evaluate(self, parameters, data): return {"loss": float(((data - parameters["mean"]) ** 2).mean())}
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from schemas.policy import Policy

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Metrics = Mapping[str, float]
Role = Literal["trained", "averaged", "frozen", "local"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One array of a model as it starts, and what becomes of it.

    trained: in the update, stepped by the server's optimizer. averaged: in the update times the policy's
    `averaged_scale`, and only averaged, like the statistics of BatchNorm. frozen: with every device, in no update.
    local: each device's own, for good.
    """

    value: Array
    role: Role = "trained"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a training may know besides its model and data.

    `state` is the device's own: what `train` leaves in it is there at the next lease exactly when the update of this
    training was kept. Its values are arrays, numbers, texts, bytes, and lists and dictionaries of these; its folder is
    the device's too, and knows nothing of updates.
    """

    version: int
    # The same for a device and a version, whatever the lease: a device that died trains again to the same bits.
    seed: int
    policy: Policy
    device: str = ""
    folder: Path | None = None
    state: dict[str, Any] = field(default_factory=dict)
    lease: str = ""
    # Until the lease ends, as far as the device can tell; what takes longer is stopped, and sends nothing.
    left_s: float = math.inf
    # The policy's own, where a plugin of a measure task asks what a model does.
    learner: Learner | None = None
    # The device's own of the task that is measured, as it was left there; nothing of it is changed.
    measured: Mapping[str, Any] = field(default_factory=dict)
    # As it checks in; empty where it says none.
    cohort: str = ""


class Learner(Protocol):
    """A model and its ways, on devices, with the operator who creates the task, and at the evaluator.

    One object serves many devices of a process, one after the other: what belongs to a device is in its context. It may
    have a method `train_together(start, members)` for a fleet that has pairs of data and context at hand: what `train`
    gives for each, whoever else is among them, or None for one that has to be trained alone. And one, `subset(data,
    places)`, that gives the evaluator a cohort of what `load` gave; without it arrays, lists and tables are known.
    """

    def initialize(self, seed: int) -> Mapping[str, Parameter | Array]:
        """The arrays of the model as it starts, in an order that never changes; an array alone is trained."""
        ...

    def load(self, part: Any) -> Sized:
        """The examples of a `client_agent.learning.data.Part`: anything with a length."""
        ...

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, Metrics]:
        """The arrays after training from `start`, which is read-only, and metrics; arrays left out did not change."""
        ...

    def evaluate(self, parameters: Arrays, data: Any) -> Metrics:
        """Metrics of a model on examples."""
        ...


def derive_seed(policy: Policy, place: str, *, version: int) -> int:
    """The seed of one training, below 2^32: of the policy, the device's place in its fleet or its name, and a version.

    No name of a lease or key is in it, which are random: a run that is repeated draws the same.
    """
    drawn_from = f"{policy.drawn_by.training}/{place}/{version}"
    return int.from_bytes(hashlib.sha256(drawn_from.encode()).digest()[:4])


def as_parameters(arrays: Mapping[str, Parameter | Array]) -> dict[str, Parameter]:
    """The same with each array's role."""
    # Most learners have nothing but arrays that train, and need not say so.
    return {
        name: Parameter(_protect(a.value), a.role) if isinstance(a, Parameter) else Parameter(_protect(a))
        for name, a in arrays.items()
    }


def _protect(value: Any) -> Array:
    """The same as an array that nobody can change: all devices of a process start from it."""
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view
