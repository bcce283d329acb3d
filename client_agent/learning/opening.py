"""The learner behind a policy, and the same at work on one task: what `Device` and the evaluator call.

`open_learner` runs what the policy names; whoever has it from the log asks `allow_list` first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from client_agent.compression import NotFiniteError
from client_agent.learning.data import DataError, Part, TooFewClasses, count_classes, take_examples
from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.layout import Layout, Model, ModelError
from client_agent.learning.learner import Arrays, Context, Learner, Parameter, as_parameters
from client_agent.learning.plugins import PluginError, resolve
from client_agent.learning.trainer import Trained
from schemas.errors import FedlogError
from schemas.events import TaskCreated
from schemas.policy import Policy
from schemas.tensors import VALUE_MAX, Floats

TORCH = "client_agent.learning.pytorch.learner:TorchLearner"
# Where a state holds what is local, beside what the learner keeps itself.
_LOCAL, _OWN = "local", "own"
_METHODS = ("initialize", "load", "train", "evaluate")

logger = structlog.get_logger(__name__)


@dataclass
class _Machine:
    """What the owner of this machine chose for all learners of the process."""

    accelerator: str = "cpu"


_machine = _Machine()


def choose_accelerator(name: str) -> None:
    """What the torch learners of this process compute with: never the log's choice. Raises PluginError."""
    if re.fullmatch(r"cpu|mps|(cuda|privateuseone)(:[0-9]{1,3})?", name) is None:
        raise PluginError(
            f"accelerator {name!r}: must be cpu, cuda, cuda:1 (or another number), mps, or privateuseone, which is "
            "torch's name for one that comes with a package of its own"
        )
    _machine.accelerator = name


def require_accelerator(name: str, policy: Policy) -> None:
    """Choose it where the policy's learner can use it on this machine. Raises PluginError."""
    choose_accelerator(name)
    # Torch takes seconds to import, and a learner of somebody's own computes where it likes.
    if name != "cpu" and not policy.learner:
        resolve("client_agent.learning.pytorch.accelerators:find_device")(name)


def open_learner(policy: Policy) -> Learner:
    """The policy's learner. Raises PluginError."""
    if policy.learner:
        make = resolve(policy.learner)
        learner = call_plugin(f"learner {policy.learner!r}", make, **policy.learner_arguments)
    else:
        learner = resolve(TORCH)(policy, accelerator=_machine.accelerator)
    # Said when the task is created, and not when the first device has trained.
    if missing := [name for name in _METHODS if not callable(getattr(learner, name, None))]:
        raise PluginError(
            f"learner {policy.learner!r} gave {type(learner).__name__}, which has no {', '.join(missing)}"
        )
    return learner  # type: ignore[no-any-return]


def call_plugin(what: str, make: Any, /, **arguments: Any) -> Any:
    """What a plugin makes of arguments of the policy, `what` in words. Raises PluginError, whatever it raises."""
    try:
        return call(what, make, **arguments)
    except LearnerError as error:
        raise PluginError(str(error)) from error


@dataclass(frozen=True, slots=True)
class TaskLearner:
    """A learner whose model is the one of a task."""

    learner: Learner
    layout: Layout
    parameters: Mapping[str, Parameter]

    @property
    def local(self) -> dict[str, Any]:
        """The arrays that every device has for itself, as they start."""
        return {name: parameter.value for name, parameter in self.parameters.items() if parameter.role == "local"}

    def find_local(self, kept: Mapping[str, Any]) -> dict[str, Any]:
        """The arrays that a device has for itself, with those that it has kept in the state of this task."""
        found = {name: array for name, array in kept.get(_LOCAL, {}).items() if name in self.local}
        return {**self.local, **found}

    def load(self, part: Part) -> Sized:
        """The examples of a device, perhaps none, or of the evaluator. Raises DataError."""
        try:
            data = call(f"data for {part}", self.learner.load, part)
            count = call(f"the length of data for {part}", count_examples, data)
        except LearnerError as error:
            raise DataError(str(error)) from error
        # A mean over none is no number. A device without examples says so, and `selection.samples_min` decides.
        if count == 0 and part.split == "test":
            raise DataError(f"data {part.plugin!r} for {part}: no examples")
        return data

    def make_trainer(self, part: Part) -> DataTrainer:
        """The learner with the examples of one device. Raises DataError."""
        return DataTrainer(self, self.load(part))

    def train(self, model: Model, data: Any, *, context: Context) -> Trained:
        """What training changes in a version's vector. Raises LearnerError, ModelError."""
        # The learner sees its own part alone, so that no name of its can collide with an array's.
        kept = dict(context.state)
        context.state.clear()
        context.state.update(kept.get(_OWN, {}))
        local = self.find_local(kept)
        for array in local.values():
            # As all of `start`: what is changed in place would have changed even where the update is not kept.
            array.flags.writeable = False
        start = {**self.layout.split(model), **local}
        answer = call("training", self.learner.train, start, data, context=context)
        # What it gave is the user's code as well: a mapping or an array of its own can raise anything.
        return call("the result of training", self._read_answer, model, answer, start=start, own=context.state)

    def train_together(self, model: Model, members: Sequence[tuple[Any, Context]]) -> list[Trained | None]:
        """What `train` gives each of many devices at one version; None for one that has to be trained alone."""
        together = getattr(self.learner, "train_together", None)
        # What a device has for itself makes it unlike the others.
        if together is None or self.local or any(context.state for _, context in members):
            return [None] * len(members)
        start = self.layout.split(model)
        try:
            answers = call("training together", together, start, members)
        except FedlogError as error:
            logger.info("trained_one_by_one", reason=str(error))
            return [None] * len(members)
        return [self._read_together(model, answer, start=start) for answer in answers]

    def _read_together(self, model: Model, answer: Any, *, start: Arrays) -> Trained | None:
        try:
            return None if answer is None else self._read_answer(model, answer, start=start, own={})
        # Trained alone, the device says what is wrong with it.
        except FedlogError:
            return None

    def read_given(self, data: Any) -> Any:
        """What the data plugin gave for data that `load` made; the same where the learner keeps it as it is."""
        read = getattr(self.learner, "read_given", None)
        return data if read is None else call("the data as they were given", read, data)

    def subset(self, data: Any, places: Sequence[int]) -> Any:
        """Some examples of data that `load` made, as `load` would give them. Raises LearnerError, DataError."""
        return call("a part of the data", getattr(self.learner, "subset", take_examples), data, places)

    def evaluate(self, model: Model, data: Any) -> dict[str, float]:
        """The metrics of a version. Raises LearnerError, ModelError."""
        # What is local differs from device to device; a version alone has it as it starts.
        arrays = {**self.local, **self.layout.split(model)}
        found = call("evaluation", self.learner.evaluate, arrays, data)
        return call("the result of evaluation", check_metrics, found)

    def _read_answer(self, model: Model, answer: Any, *, start: Arrays, own: dict[str, Any]) -> Trained:
        arrays, metrics = _check_answer(answer)
        if unknown := arrays.keys() - self.parameters.keys():
            raise LearnerError(
                f"training gave arrays that the model does not have: {sorted(map(str, unknown))[:5]}; it has "
                f"{sorted(self.parameters)[:5]}"
            )
        # Arrays that were left out did not change, and most learners change only some.
        after = {**start, **arrays}
        for name, first in self.local.items():
            # Kept, it would fail each training of this device from now on.
            if np.shape(after[name]) != first.shape:
                raise LearnerError(f"the learner's {name!r} has shape {np.shape(after[name])}, expected {first.shape}")
        self._check_local(start, after)
        # Most of what is local never changes, such as masks, and need not be kept with every update.
        local = {
            name: np.asarray(after[name]) for name, first in self.local.items() if not _is_same(after[name], first)
        }
        return Trained(
            delta=self._subtract(model, after),
            metrics=check_metrics(metrics),
            state={_LOCAL: local, _OWN: dict(own)} if local or own else {},
        )

    def _check_local(self, start: Arrays, after: Arrays) -> None:
        """Nothing where what is local holds no NaN that was not there before. Raises LearnerError."""
        for name in self.local:
            # Kept, it would be with this device for good: no version brings another.
            if _holds_nan(after[name]) and not _holds_nan(start[name]):
                raise LearnerError(
                    f"training gave NaN in {name!r}, which is this device's own; nothing is sent, and the device keeps "
                    "the last good one. Try a smaller training.learning_rate, and look for NaN in the data"
                )

    def _subtract(self, model: Model, after: Arrays) -> Floats:
        """What training changed. Raises NotFiniteError, which names the arrays and says whose fault it may be."""
        delta = self.layout.join(after) - model.vector
        if np.isfinite(delta).all():
            return delta
        # A version beyond this has left the range in which anything learns.
        if not np.isfinite(model.vector).all() or np.abs(model.vector).max() > VALUE_MAX:
            raise NotFiniteError(
                "the version that training started from holds NaN, infinity or values above "
                f"{VALUE_MAX:g}: no device can train it. Create another, with a smaller learning rate or less noise"
            )
        named = [spec.name for spec in self.layout.vector_tensors if not np.isfinite(after[spec.name]).all()]
        raise NotFiniteError(
            f"training gave NaN or infinity in {', '.join(map(repr, named[:3])) or 'an array'} ({len(named)} of "
            f"{len(self.layout.vector_tensors)} arrays); nothing of it is sent. Try a smaller training.learning_rate, "
            "and look for NaN in the data"
        )


def open_task_learner(created: TaskCreated) -> TaskLearner:
    """The learner of a task, whose model is compared with the task's. Raises PluginError, ModelError."""
    # The layout is the task's, and not what the code here would make: the vectors in the log are in the task's order.
    learner, layout = open_learner(created.policy), Layout.read_task(created)
    check_size(learner, layout)
    # Devices and the evaluator make the same model as the operator did.
    parameters = initialize(learner, created.policy.drawn_by.model)
    layout.check(parameters)
    return TaskLearner(learner, layout, parameters)


def initialize(learner: Learner, seed: int) -> dict[str, Parameter]:
    """The model of a learner as it starts. Raises PluginError, ModelError."""
    try:
        return as_parameters(call("the model", learner.initialize, seed))
    except (LearnerError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(str(error)) from error


def check_metrics(metrics: Any) -> dict[str, float]:
    """Metrics as finite floats by name. Raises LearnerError."""
    try:
        found = {str(name): float(value) for name, value in dict(metrics or {}).items()}
    except (TypeError, ValueError) as error:
        raise LearnerError(f"metrics must be numbers by name ({error})") from error
    return found


def count_examples(data: Any) -> int:
    """How many examples: a tuple or a mapping holds columns, and each of these has all of them."""
    # Learners hand on what a data plugin gives, and two columns are no two examples.
    if isinstance(data, tuple | Mapping) and data:
        data = next(iter(data.values())) if isinstance(data, Mapping) else data[0]
    if not hasattr(data, "__len__"):
        raise TypeError(f"{type(data).__name__} has no length: give arrays, or list(...) of it")
    return len(data)


def _holds_nan(value: Any) -> bool:
    array = np.asarray(value)
    return array.dtype.kind in "fc" and bool(np.isnan(array).any())


def _is_same(value: Any, first: Any) -> bool:
    return bool(np.array_equal(value, first)) and np.asarray(value).dtype == np.asarray(first).dtype


def check_size(learner: Learner, layout: Layout) -> None:
    """Nothing where a learner that can count without memory has as many elements as the task. Raises ModelError."""
    # The arguments stand in the log beside a model of known size: a huge one must not be made to find that out.
    count = getattr(learner, "count_elements", None)
    found = count() if count is not None else None
    if found is not None and found != layout.size + layout.frozen_size:
        raise ModelError(f"the model has {found} elements with the policy's arguments, the task's {layout.size}")


@dataclass(frozen=True, slots=True)
class DataTrainer:
    """A `Trainer`: the learner of a task, with the examples of one device."""

    learner: TaskLearner
    data: Sized

    @property
    def sample_count(self) -> int:
        """How many examples there are; none where the data do not say so any more."""
        # Asked for in every check-in, where an error of a user's code would end the device and not a lease.
        try:
            return self._count()
        except LearnerError:
            return 0

    def _count(self) -> int:
        return call("the length of the data", count_examples, self.data)

    def find_lack(self, policy: Policy) -> str:
        """What the policy asks of a device's examples and these do not have; empty where that is nothing."""
        wanted = policy.training.classes_min
        found = count_classes(self.data) if wanted > 1 else None
        if found is None or found >= wanted:
            return ""
        return f"the labels here have {found} classes, and training.classes_min = {wanted}: no update of this device"

    def train(self, model: Model, context: Context) -> Trained:
        """What training changes in a version's vector: nothing without examples. Raises LearnerError, ModelError."""
        # A policy that lets such devices train (samples_min = 0) must not depend on what a loop makes of no batch.
        if self._count() == 0:
            return Trained(delta=np.zeros_like(model.vector), state=context.state)
        if lack := self.find_lack(context.policy):
            raise TooFewClasses(lack)
        return self.learner.train(model, self.data, context=context)


def _check_answer(answer: Any) -> tuple[Arrays, Any]:
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Mapping):
        return answer
    raise LearnerError(f"training gave {type(answer).__name__}, expected a pair: arrays by name, and metrics by name")
