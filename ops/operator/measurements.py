"""What a measure task begins with: zeros for its statistics, and copies of what it measures or is compared with.

Called by `tasks.create`. The copy stands with the task's own bodies: the measured task may delete its version, and live
in another partition.
"""

from __future__ import annotations

import numpy as np

from client_agent.learning.layout import Layout, ModelError
from client_agent.learning.measuring.answers import open_own_learner
from client_agent.learning.measuring.arguments import check_arguments
from client_agent.learning.sources import hash_sources
from ops.operator import models, tasks
from ops.operator.errors import MeasurementUnprotected, ModelMismatch
from ops.operator.first_models import FirstModel, Measured
from ops.operator.releasing import references
from schemas.events import TaskCreated, count_elements, list_statistics
from schemas.policy import Policy
from schemas.policy.measuring import NEWEST
from schemas.tensors import Floats
from streams.log import EventLog


def make(log: EventLog, policy: Policy, *, operator: bytes) -> FirstModel:
    """The first model of a task with this question.

    Raises PluginError, and where it measures a version TaskUnknown, VersionUnknown, ModelGone, ModelMismatch and
    MeasurementUnprotected.
    """
    assert policy.measure is not None
    check_arguments(policy.measure)
    asked = list_statistics(policy.measure)
    frozen, measured = None, None
    if policy.measure.of:
        frozen, measured = _read_subject(log, policy, operator=operator)
    return FirstModel(
        tensors=asked,
        vector=np.zeros(count_elements(asked, "trained"), np.float32),
        frozen=frozen,
        sources=hash_sources(policy),
        measured=measured,
        referred=references.read(log, policy, operator=operator),
    )


def _read_subject(log: EventLog, policy: Policy, *, operator: bytes) -> tuple[Floats | None, Measured]:
    """What is frozen of the measured model, and its version."""
    assert policy.measure is not None
    wanted, name = policy.measure.version, policy.measure.of
    view = tasks.find_view(log, name, operator=operator)
    created = tasks.require({} if view.created is None else {name: view.created}, name)
    # All that can be refused is refused before bodies are read, which may be large.
    version = models.choose_version(view, None if wanted == NEWEST else wanted)
    _check_subject(created, policy)
    vector = models.read(log, view.published[version].model, parameters=created.parameters)
    size = count_elements(created.tensors, "frozen")
    frozen = None if created.frozen is None else models.read(log, created.frozen, parameters=size)
    return frozen, Measured(task=name, version=version, tensors=created.tensors, vector=vector)


def _check_subject(created: TaskCreated, policy: Policy) -> None:
    # Its vector has the form of a model, so that nothing further down would notice.
    if created.policy.measure is not None:
        raise ModelMismatch(f"{created.task!r} is a measurement itself, and its versions are no models.")
    if created.policy.privacy is not None and policy.privacy is None:
        raise MeasurementUnprotected(
            f"{created.task!r} is trained with privacy, and its devices' answers would be published without: give the "
            "measurement a table [privacy] of its own."
        )
    layout = Layout(created.tensors, policy.parameters.averaged_scale)
    # It is the unit of what is averaged in the vector, and another would scale the model's statistics.
    if layout.averaged_scale != created.policy.parameters.averaged_scale:
        raise ModelMismatch(
            f"parameters.averaged_scale = {layout.averaged_scale:g}: {created.task!r} has "
            f"{created.policy.parameters.averaged_scale:g}, and a measured model keeps its own."
        )
    # Here already, or each device would find it out for itself under a lease.
    try:
        open_own_learner(policy, layout)
    except ModelError as error:
        raise ModelMismatch(f"The policy's model is not that of {created.task!r}: {error}") from error
