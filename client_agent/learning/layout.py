"""Between the named arrays of a learner and the flat vectors of the log: which element is where, in what unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Arrays, Parameter, Role
from client_agent.learning.plugins import PluginError
from schemas.events import TaskCreated, TensorSpec, count_elements
from schemas.tensors import Floats

NAME_LENGTH_MAX = 512  # as in TensorSpec
_FLOAT_MAX = float(np.finfo(np.float32).max)


class ModelError(PluginError):
    """The model cannot be trained this way, or is not the task's; the message says what to change."""

    code = "model_unusable"


@dataclass(frozen=True, slots=True)
class Model:
    """A version as the log has it: its vector, shape (parameters,), and the body of what is frozen in its task."""

    vector: Floats
    frozen: Floats | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The tensors of a task; `averaged_scale` is what an averaged value is multiplied by in the vector.

    What is reported under privacy is behind all others in the vector of a version, and in no learner.
    """

    tensors: tuple[TensorSpec, ...]
    averaged_scale: float = 1.0

    @classmethod
    def read_task(cls, created: TaskCreated) -> Layout:
        """The layout of the model that devices of this task have; of the subject's, where one is measured."""
        tensors = created.subject.tensors if created.subject else created.tensors
        return cls(tensors, created.policy.parameters.averaged_scale)

    @classmethod
    def describe_parameters(cls, parameters: Mapping[str, Parameter], *, averaged_scale: float) -> Layout:
        """The layout of a model that is about to become a task's. Raises ModelError."""
        _check_parameters(parameters)
        tensors = tuple(
            TensorSpec(name=name, shape=parameter.value.shape, role=parameter.role)
            for name, parameter in parameters.items()
            if parameter.role != "local"
        )
        return cls(tensors, averaged_scale)

    @property
    def vector_tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors of the vector in its order: those trained, then those averaged."""
        return (*self._with_role("trained"), *self._with_role("averaged"))

    @property
    def reported_tensors(self) -> tuple[TensorSpec, ...]:
        """What devices report, behind the other tensors of a version's vector."""
        return self._with_role("reported")

    @property
    def frozen_tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors of the body of what is frozen, in its order."""
        return self._with_role("frozen")

    @property
    def size(self) -> int:
        """How many elements the vector has."""
        return count_elements(self.tensors, "trained", "averaged")

    @property
    def frozen_size(self) -> int:
        """How many elements are frozen."""
        return count_elements(self.tensors, "frozen")

    def join(self, arrays: Arrays) -> Floats:
        """The vector of a model, float32 of shape (size,). Raises LearnerError for an array that does not fit."""
        return _join(self.vector_tensors, arrays, scales=self._find_scales())

    def join_frozen(self, arrays: Arrays) -> Floats:
        """The body of what is frozen, float32 of shape (frozen_size,)."""
        return _join(self.frozen_tensors, arrays, scales={})

    def split(self, model: Model) -> dict[str, Floats]:
        """The arrays of a model, read-only, in the order of the learner. Raises ModelError for another length."""
        vector, told = model.vector, count_elements(self.reported_tensors, "reported")
        # On a device they are cut off already.
        vector = vector[: self.size] if told and vector.size == self.size + told else vector
        found = _split(self.vector_tensors, vector, scales=self._find_scales())
        if self.frozen_size:
            frozen = np.zeros(0, np.float32) if model.frozen is None else model.frozen
            found |= _split(self.frozen_tensors, frozen, scales={})
        return {spec.name: found[spec.name] for spec in self.tensors if spec.role != "reported"}

    def check(self, parameters: Mapping[str, Parameter]) -> None:
        """Nothing where these are the task's tensors. Raises ModelError that names the first difference."""
        # In order too: two layers of one shape that changed places would swap their weights without a word.
        own = [(name, p.value.shape, p.role) for name, p in parameters.items() if p.role != "local"]
        theirs = [(spec.name, spec.shape, spec.role) for spec in self.tensors if spec.role != "reported"]
        if own == theirs:
            return
        shorter = min(len(own), len(theirs))
        place = next((i for i in range(shorter) if own[i] != theirs[i]), shorter)
        raise ModelError(
            f"tensor {place + 1} of the model is {_describe(own, place)} here and {_describe(theirs, place)} in the "
            "task: is it the same code?"
        )

    def _with_role(self, role: str) -> tuple[TensorSpec, ...]:
        return tuple(spec for spec in self.tensors if spec.role == role)

    def _find_scales(self) -> dict[str, float]:
        return {spec.name: self.averaged_scale for spec in self._with_role("averaged")}


def _join(specs: Sequence[TensorSpec], arrays: Arrays, *, scales: Mapping[str, float]) -> Floats:
    # Filled in place: a concatenation would hold a large model twice.
    flat, at = np.empty(sum(spec.size for spec in specs), np.float32), 0
    for spec in specs:
        array = _as_floats(spec, arrays)
        flat[at : at + spec.size] = array.reshape(-1)
        if spec.name in scales:
            flat[at : at + spec.size] *= np.float32(scales[spec.name])
        at += spec.size
    return flat


def _as_floats(spec: TensorSpec, arrays: Arrays) -> Floats:
    if spec.name not in arrays:
        raise LearnerError(f"the learner gave no array {spec.name!r}; it has {sorted(arrays)[:8]}")
    try:
        array = np.asarray(arrays[spec.name])
        # Numpy would read texts as numbers, and drop what is imaginary.
        if array.dtype.kind in "USMmc":
            raise TypeError(f"values of type {array.dtype}")
        # Whatever precision it has on the device, on the wire it is float32.
        array = array.astype(np.float32, copy=False)
    # A tensor of another framework says in its own kind of error why it becomes no array.
    except Exception as error:
        raise LearnerError(f"the learner's {spec.name!r} is no array of numbers ({error})") from error
    if array.shape != spec.shape:
        raise LearnerError(f"the learner's {spec.name!r} has shape {array.shape}, expected {spec.shape}")
    return array


def _split(specs: Sequence[TensorSpec], flat: Floats, *, scales: Mapping[str, float]) -> dict[str, Floats]:
    expected = sum(spec.size for spec in specs)
    if flat.size != expected:
        raise ModelError(f"the model has {expected} parameters, the version {flat.size}; is it the same code?")
    found, at = dict[str, Floats](), 0
    for spec in specs:
        part = flat[at : at + spec.size].reshape(spec.shape)
        found[spec.name] = part if scales.get(spec.name, 1.0) == 1.0 else part / np.float32(scales[spec.name])
        # All devices of a process share the vector, and a version never changes.
        found[spec.name].flags.writeable = False
        at += spec.size
    return found


def _check_parameters(parameters: Mapping[str, Parameter]) -> None:
    problems = list(_find_misnamed(parameters)) + [
        f"{name!r} is {parameter.value.dtype}, and only floating numbers can be {parameter.role}"
        for name, parameter in parameters.items()
        if parameter.role != "local" and not np.issubdtype(parameter.value.dtype, np.floating)
    ]
    # A task without anything to train would publish its first model for ever.
    if not any(parameter.role == "trained" and parameter.value.size for parameter in parameters.values()):
        problems.append("nothing in it is trained")
    if problems:
        raise ModelError("; ".join(problems[:5]))


def _find_misnamed(parameters: Mapping[str, Parameter]) -> Iterator[str]:
    """What no reader of the log could read, or no device train."""
    # A user's dictionary, of which nobody has checked anything.
    named: Mapping[Any, Parameter] = parameters
    for name, parameter in named.items():
        if not (isinstance(name, str) and 0 < len(name) <= NAME_LENGTH_MAX):
            yield f"an array is called {name!r:.40}: a name is a text of 1 to {NAME_LENGTH_MAX} letters"
        if parameter.role not in get_args(Role):
            yield f"{name!r} has the role {parameter.role!r}: one of {', '.join(get_args(Role))}"
        # A frozen mask may well hold infinity.
        floats = np.issubdtype(parameter.value.dtype, np.floating) and parameter.role in ("trained", "averaged")
        if floats and not (np.abs(parameter.value) <= _FLOAT_MAX).all():
            yield f"{name!r} starts with NaN, infinity or beyond float32: no device could train it"


def _describe(tensors: Sequence[tuple[str, tuple[int, ...], str]], place: int) -> str:
    if place >= len(tensors):
        return "missing"
    name, shape, role = tensors[place]
    return f"{name!r} of shape {shape}, {role}"
