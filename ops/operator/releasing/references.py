"""What a measure task's answers are compared with, where it is another task's: a copy that is made with the task.

The copy stands with the task's own bodies: the other may delete its version, and live in another partition.
"""

from __future__ import annotations

import numpy as np

from actors.deciders.arithmetic.drifting import find_noise
from actors.deciders.arithmetic.statistics import split
from ops.operator import models, tasks
from ops.operator.errors import ModelMismatch
from ops.operator.first_models import Referred
from schemas.events import TaskCreated, list_statistics
from schemas.policy import Drift, Policy
from schemas.policy.measuring import NEWEST
from schemas.tensors import Floats
from streams.log import EventLog


def read(log: EventLog, policy: Policy, *, operator: bytes) -> Referred | None:
    """The version that the policy names of another task, in the form of this one; None where it names none.

    Raises TaskUnknown, VersionUnknown, ModelGone and ModelMismatch.
    """
    asked, measure = policy.drift, policy.measure
    if not asked or not asked.of or measure is None:
        return None
    view = tasks.find_view(log, asked.of, operator=operator)
    created = tasks.require({} if view.created is None else {asked.of: view.created}, asked.of)
    # Before anything is read: other bins would be compared without a word.
    _check_statistics(created, policy, asked=asked)
    version = models.choose_version(view, None if asked.version == NEWEST else asked.version)
    # Zeros would be compared with, and everything would have moved.
    if version == 0:
        raise ModelMismatch(f"{asked.of!r} has no answer yet: its version 0 is what it began with.")
    published = view.published[version]
    found = split(models.read(log, published.model, parameters=created.parameters), created)
    vector = np.concatenate(
        [
            _scale(found[spec.name], created, policy=policy, members=published.members).reshape(-1)
            if spec.name in (asked.statistic, asked.devices) and spec.name in found
            # Of the others nothing is compared, and nothing copied.
            else np.zeros(spec.size, np.float32)
            for spec in list_statistics(measure)
        ]
    )
    return Referred(
        task=asked.of,
        version=version,
        members=published.members,
        noise=float(find_noise(created.policy, asked.statistic)),
        vector=vector,
    )


def _check_statistics(created: TaskCreated, policy: Policy, *, asked: Drift) -> None:
    """Nothing where both mean the same by what is compared. Raises ModelMismatch."""
    theirs, mine = created.policy.measure, policy.measure
    assert mine is not None
    if theirs is None:
        raise ModelMismatch(f"drift.of: {created.task!r} measures nothing, so that nothing can be compared with it.")
    for name in (asked.statistic, asked.devices) if asked.cohorts else (asked.statistic,):
        there = theirs.statistics.get(name)
        if there is None or there.shape != mine.statistics[name].shape:
            has = "none of that name" if there is None else f"one of shape {[*there.shape]}"
            wanted = [*mine.statistics[name].shape]
            raise ModelMismatch(f"drift.of: {created.task!r} has no statistic {name!r} of shape {wanted}, but {has}.")
    # Rows have no names in the vector, so that only the policies can tell whose each is.
    if asked.cohorts and created.policy.drift and created.policy.drift.cohorts != asked.cohorts:
        raise ModelMismatch(
            f"drift.of: the rows of {created.task!r} are {[*created.policy.drift.cohorts]}, not {[*asked.cohorts]}."
        )


def _scale(array: Floats, created: TaskCreated, *, policy: Policy, members: int) -> Floats:
    """A sum as the mean over devices, or the other way round, as this task releases it."""
    assert created.policy.measure is not None
    assert policy.measure is not None
    theirs, mine = created.policy.measure.release, policy.measure.release
    # Twice scaled it would be another number of devices.
    if theirs == mine:
        return array
    scaled = array * np.float32(members) if theirs == "mean" else array / np.float32(members)
    return scaled.astype(np.float32)
