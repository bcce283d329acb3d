"""Evaluate: topic `evaluations`, written by the evaluator."""

from __future__ import annotations

from schemas.events.event import Event
from schemas.identifiers import Cohort, Count, TaskId, Version


class VersionEvaluated(Event):
    """How a version does on held-out data."""

    task: TaskId
    version: Version
    metrics: dict[str, float]
    samples: Count
    # Empty for all devices together.
    cohort: Cohort
