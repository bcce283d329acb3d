"""How far the answers of a measure task have moved: what a scheduler asks before it starts a retraining."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
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


_POLICY = "SELECT policy FROM policies WHERE task = $task"


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
    from decimal import Decimal

    from actors.deciders.arithmetic.drifting import Histogram, find_noise, read_counts
    from ops.operator.releasing.drifting import compare_counts
    from schemas.policy import Drift, Policy

    require_task(asked, task)
    found = asked.ask(_HISTOGRAMS, task=task, statistic=wanted.statistic)
    [[policy]] = asked.ask(_POLICY, task=task).rows
    rules = msgspec.json.decode(policy, type=Policy)
    # As sums, in which the noise of a release is known.
    is_mean = rules.measure is not None and rules.measure.release == "mean"
    histograms = {
        version: Histogram(
            counts=read_counts(counts, times=devices if is_mean else 1),
            devices=Decimal(devices),
            noise=find_noise(rules, wanted.statistic),
        )
        for version, counts, devices in found.rows
    }
    # Before the first answer nothing has drifted; afterwards a reference that is not there is a mistake.
    if wanted.reference not in histograms and asked.ask("FROM measurements WHERE task = $task LIMIT 1", task=task).rows:
        raise RequestRefused(f"{task!r} has no version {wanted.reference} with a statistic {wanted.statistic!r}.")
    rule = Drift(statistic=wanted.statistic, psi_max=wanted.psi, ks_max=wanted.ks)
    compared = (
        compare_counts(histograms[wanted.reference], histogram, version=version, asked=rule)
        for version, histogram in histograms.items()
        if version > wanted.reference
    )
    versions: list[dict[str, Any]] = [each.to_json() for each in compared if each is not None]
    # Older versions are history; a scheduler acts on what is so now.
    is_drift = bool(versions) and versions[-1]["is_drift"]
    return write_answer(found, {"task": task, "versions": versions, "is_drift": is_drift})
