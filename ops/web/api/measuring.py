"""How far the answers of a measure task have moved: what a scheduler asks before it starts a retraining."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from ops.web.api.asked import Question, write_answer
from ops.web.api.reading import TaskName
from ops.web.api.rows import INTEGER_MAX, require_task
from ops.web.problems import RequestRefused

router = APIRouter(tags=["reading"])

# A statistic whose numbers are not in the history, for being very large or gone, cannot be compared.
_HISTOGRAMS = """
SELECT version, list(value ORDER BY index) AS counts, any_value(client_count) AS devices
FROM statistics JOIN measurements USING (task, version)
WHERE task = $task AND statistic = $statistic GROUP BY version HAVING bool_and(value IS NOT NULL) ORDER BY version
"""


class OfDrift(BaseModel):
    """What is compared, and from where on it is drift: the options of `fedlog drift`."""

    model_config = ConfigDict(extra="forbid")
    reference: Annotated[int, Field(ge=1, le=INTEGER_MAX, description="The version to compare with.")] = 1
    statistic: Annotated[str, Field(max_length=127, description="The statistic that is a histogram.")] = "histogram"
    psi: Annotated[float, Field(ge=0, le=1e6, description="From which stability index on it is drift.")] = 0.2
    ks: Annotated[float, Field(ge=0, le=1, description="From which Kolmogorov-Smirnov distance on it is drift.")] = 0.1


@router.get("/tasks/{task}/drift")
def show_drift(asked: Question, task: TaskName, *, wanted: Annotated[OfDrift, Query()]) -> Response:
    """How far each later answer of a measure task is from `reference`; `is_drift` is what the newest one says."""
    import numpy as np

    from ops.audit.outliers.drift import Bounds, Histogram, judge

    require_task(asked, task)
    found = asked.ask(_HISTOGRAMS, task=task, statistic=wanted.statistic)
    histograms = {
        version: Histogram(counts=np.asarray(counts, np.float64), devices=devices)
        for version, counts, devices in found.rows
    }
    if wanted.reference not in histograms:
        raise RequestRefused(f"{task!r} has no version {wanted.reference} with a statistic {wanted.statistic!r}.")
    first, bounds = histograms[wanted.reference], Bounds(psi=wanted.psi, ks=wanted.ks)
    versions: list[dict[str, Any]] = [
        {"version": version, **judge(first, histogram, bounds=bounds).to_json()}
        for version, histogram in histograms.items()
        if version > wanted.reference
    ]
    # Older versions are history; a scheduler acts on what is so now.
    is_drift = bool(versions) and versions[-1]["is_drift"]
    return write_answer(found, {"task": task, "versions": versions, "is_drift": is_drift})
