"""What a measure task has published, read by people: named statistics, and the scores of a federated evaluation.

Called by `fedlog measure`, `fedlog task show` and `ops.operator.model_files`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.deciders.arithmetic import statistics
from ops.history.task_view import TaskView
from ops.operator import models
from ops.operator.errors import ModelGone
from schemas.identifiers import TaskId, Version
from schemas.tensors import Floats
from streams.log import EventLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One release of a measure task: which version of which task it measured, and how many devices answered."""

    task: TaskId
    version: Version
    of: TaskId
    of_version: Version | None
    members: int
    release: str
    statistics: Mapping[str, Floats]
    scores: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return {
            "task": self.task,
            "version": self.version,
            "of": self.of or None,
            "of_version": self.of_version,
            "devices": self.members,
            "release": self.release,
            "statistics": {name: array.tolist() for name, array in self.statistics.items()},
            "scores": {name: dict(scores) for name, scores in self.scores.items()},
        }


def read(log: EventLog, view: TaskView, *, version: Version) -> Result:
    """A release, version 1 or later. Raises ModelGone, BodyError."""
    created, published = view.created, view.published[version]
    assert created is not None
    assert created.policy.measure is not None
    found = statistics.split(models.read(log, published.model, parameters=created.parameters), created)
    # A sum is divided here and nowhere else, so that both releases read alike.
    release = created.policy.measure.release
    devices = published.members if release == "sum" else 1
    return Result(
        task=view.task,
        version=version,
        of=created.policy.measure.of,
        of_version=created.subject.version if created.subject else None,
        members=published.members,
        release=release,
        statistics=found,
        scores=statistics.find_scores(found, devices=devices),
    )


def read_newest(log: EventLog, view: TaskView) -> Result | None:
    """The newest release; None of a task that measures nothing or has released nothing that can still be read."""
    # Version 0 is zeros, which nobody has answered.
    if view.created is None or view.created.policy.measure is None or not view.version:
        return None
    # It may have been deleted, and what shows a task shows the rest of it all the same.
    try:
        return read(log, view, version=view.version)
    except ModelGone:
        return None


def list_measurements(log: EventLog, views: Iterable[TaskView], *, of: TaskId) -> list[Result]:
    """The newest release of each measurement of a task, in the order of the measured versions."""
    found = [read_newest(log, view) for view in views if _measures(view, of)]
    return sorted((result for result in found if result), key=lambda one: (one.of_version or 0, one.task))


def _measures(view: TaskView, of: TaskId) -> bool:
    measure = view.created.policy.measure if view.created else None
    return measure is not None and measure.of == of
