"""Evaluate: topic `evaluations`, written by the evaluators."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.event import Event
from schemas.identifiers import Cohort, Count, TaskId, Version

# Who scores: the first 8 bytes of the sha256 of the public key in the certificate, as hex.
EvaluatorId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]


class VersionEvaluated(Event):
    """How a version does on held-out data. An evaluator says its cohorts first, and then that of all together."""

    task: TaskId
    version: Version
    metrics: dict[str, float]
    samples: Count
    # Empty for all together; it comes last, and so says that this evaluator has said all of the version.
    cohort: Cohort
    # Readers that check the signature believe no other than its key's; what was written before names none.
    evaluator: EvaluatorId | UnsetType = UNSET
    # The measure task whose result this is; without one the evaluator's own held-out data.
    source: TaskId | UnsetType = UNSET
