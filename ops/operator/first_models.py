"""The first model of a task: what its learner gives, as bodies of `models`; called by `ops.operator.tasks`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from msgspec import UNSET, UnsetType

from client_agent.learning.layout import Layout, ModelError
from client_agent.learning.learner import Arrays, Learner
from client_agent.learning.opening import initialize, open_learner
from client_agent.learning.sources import hash_sources
from client_agent.setting import MODEL_BYTES_MAX
from ops.operator import models
from schemas.events import Reference, Subject, TensorSpec, count_elements
from schemas.identifiers import BodyRef, Sha256, TaskId, Version
from schemas.policy import Policy
from schemas.policy.metrics import list_noised_reports
from schemas.tensors import Floats
from streams.log import EventLog

# No learner's array is called so: it is not an identifier in any framework.
REPORTED = "(reported metrics)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The version that a measure task measures."""

    task: TaskId
    version: Version
    tensors: tuple[TensorSpec, ...]
    vector: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Referred:
    """The version with which a measure task's answers are compared, in that task's own form."""

    task: TaskId
    version: Version
    members: int
    noise: float
    vector: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstModel:
    """The vector of version 0, what is frozen, the tensors of both, and the digest of each plugin's source.

    Where a version of another task is `measured`, what is frozen is that model's.
    """

    tensors: tuple[TensorSpec, ...]
    vector: Floats
    frozen: Floats | None
    sources: dict[str, Sha256]
    measured: Measured | None = None
    referred: Referred | None = None
    # Names of arrays that stay with each device, as its code makes them.
    local: frozenset[str] = frozenset()
    averaged_scale: float = 1.0

    def starting_with(self, vector: Floats, frozen: Floats | None) -> Self:
        """The same from another start: the newest version of a task of the same tensors, with what is frozen in it."""
        return replace(self, vector=vector, frozen=frozen)

    def fill_with(self, arrays: Arrays) -> Self:
        """The same from arrays by name, which have its tensors' names and shapes."""
        layout = Layout(self.tensors, self.averaged_scale)
        told = np.zeros(self.vector.size - layout.size, np.float32)
        vector = np.concatenate([layout.join(arrays), told])
        return self.starting_with(vector, layout.join_frozen(arrays) if layout.frozen_size else None)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """Where its bodies stand."""

    model: BodyRef
    frozen: BodyRef | None
    subject: Subject | None
    reference: Reference | UnsetType


def make(policy: Policy, *, seed: int | None = None) -> FirstModel:
    """The model that the policy's learner starts with, by the policy's seed. Raises PluginError, ModelError."""
    learner = open_learner(policy)
    _check_size(learner)
    parameters = initialize(learner, policy.drawn_by.model if seed is None else seed)
    layout = Layout.describe_parameters(parameters, averaged_scale=policy.parameters.averaged_scale)
    # Local arrays are in no vector: each device starts with its own.
    arrays = {name: parameter.value for name, parameter in parameters.items()}
    told = _place_reports(policy)
    return FirstModel(
        tensors=(*layout.tensors, *told),
        vector=np.concatenate([layout.join(arrays), np.zeros(count_elements(told, "reported"), np.float32)]),
        frozen=layout.join_frozen(arrays) if layout.frozen_size else None,
        sources=hash_sources(policy),
        local=frozenset(name for name, parameter in parameters.items() if parameter.role == "local"),
        averaged_scale=policy.parameters.averaged_scale,
    )


def _place_reports(policy: Policy) -> tuple[TensorSpec, ...]:
    """Where in the vector stands what devices report under privacy; nobody has reported anything yet."""
    names = list_noised_reports(policy)
    return (TensorSpec(name=REPORTED, shape=(len(names),), role="reported"),) if names else ()


def store(log: EventLog, first: FirstModel, *, partition: int) -> StoredModel:
    """Write its bodies into `models`."""
    frozen = None if first.frozen is None else models.store(log, first.frozen, partition=partition)
    subject = None if first.measured is None else _store_subject(log, first.measured, partition=partition)
    # Where the policy names none, not a byte of the creation is another.
    reference = UNSET if first.referred is None else _store_reference(log, first.referred, partition=partition)
    return StoredModel(models.store(log, first.vector, partition=partition), frozen, subject, reference)


def _check_size(learner: Learner) -> None:
    """Nothing where devices have memory for what a learner can count without any. Raises ModelError."""
    # Before memory is taken: a misspelt number of layers should be an error and no killed process.
    found = count() if (count := getattr(learner, "count_elements", None)) is not None else None
    if found is not None and 4 * found > MODEL_BYTES_MAX:
        raise ModelError(
            f"model_arguments: the model has {found} parameters, and devices take at most {MODEL_BYTES_MAX // 4}"
        )


def _store_subject(log: EventLog, measured: Measured, *, partition: int) -> Subject:
    return Subject(
        task=measured.task,
        version=measured.version,
        tensors=measured.tensors,
        model=models.store(log, measured.vector, partition=partition),
    )


def _store_reference(log: EventLog, referred: Referred, *, partition: int) -> Reference:
    return Reference(
        task=referred.task,
        version=referred.version,
        members=referred.members,
        noise=referred.noise,
        model=models.store(log, referred.vector, partition=partition),
    )
