"""The numbers behind a picture: how a task did by version, by upload and by time, how stale, and who took part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean
from typing import Any

from ops.history.tables.answers import Answer, QueryRefused
from schemas.identifiers import TaskId

Ask = Callable[..., Answer]

# Uploads are all that were decided by then, refused ones too: a device has paid for those as well. The newest score of
# a version counts, as in the table `versions`.
_CURVE = """
WITH decided AS (
    SELECT decided_at, max(number) AS uploads
    FROM (SELECT decided_at, row_number() OVER (ORDER BY decided_at) AS number FROM updates WHERE task = $task)
    GROUP BY decided_at
), begun AS (SELECT min(created_at) AS at FROM tasks WHERE task = $task)
SELECT published.version, coalesce(decided.uploads, 0) AS uploads,
    epoch_ms(published.published_at - begun.at) / 1000 AS seconds, try_cast(metrics ->> $metric AS DOUBLE) AS value
FROM begun, versions AS published ASOF LEFT JOIN decided ON published.published_at >= decided.decided_at
WHERE published.task = $task AND isfinite(try_cast(metrics ->> $metric AS DOUBLE)) ORDER BY published.version
"""
_STALENESS = """
SELECT version, staleness_p50, staleness_p95 FROM rounds
WHERE task = $task AND version IS NOT NULL AND staleness_p50 IS NOT NULL ORDER BY version
"""
_STALENESS_MEAN = "SELECT avg(staleness) FROM updates WHERE task = $task AND outcome = 'admitted'"
_PARTICIPATION = "SELECT admitted FROM devices WHERE task = $task ORDER BY admitted DESC"
_METRIC = "SELECT policy -> 'stop' ->> 'target_metric' FROM policies WHERE task = $task"
_METRICS = """
SELECT DISTINCT unnest(json_keys(metrics)) AS metric FROM versions WHERE task = $task AND metrics IS NOT NULL ORDER BY 1
"""
_LIVES = """
SELECT task, created_at, greatest(created_at, coalesce(halted_at, (SELECT max(published_at) FROM versions)))
FROM tasks ORDER BY created_at, task
"""
_BRANCHES = """
SELECT ancestry.task, ancestry.parent, parent_version, relation, versions.published_at
FROM ancestry LEFT JOIN versions ON versions.task = parent AND versions.version = parent_version
WHERE parent IN (SELECT task FROM tasks) ORDER BY ancestry.created_at
"""


@dataclass(frozen=True, slots=True)
class Series:
    """What there is to draw of one task. `seconds` are since its creation; lists of one group have equal lengths."""

    name: str
    metric: str
    versions: Sequence[int]
    uploads: Sequence[int]
    seconds: Sequence[float]
    values: Sequence[float]
    released: Sequence[int]  # versions that have members, and the staleness of those
    staleness_p50: Sequence[float]
    staleness_p95: Sequence[float]
    admitted: Sequence[int]  # updates of each device that count, the busiest device first
    staleness_mean: float | None = None  # of all those updates


@dataclass(frozen=True, slots=True)
class Life:
    """A task from its creation to its end, or to the newest version of any task while it goes on."""

    task: TaskId
    began: datetime
    ended: datetime


@dataclass(frozen=True, slots=True)
class Branch:
    """A task that starts from `version` of `parent`, appended at `at`; None where it is another's, or none."""

    task: TaskId
    parent: TaskId
    version: int | None
    relation: str
    at: datetime | None


def read_series(ask: Ask, task: TaskId, *, metric: str = "") -> Series:
    """All series of a task; `metric` empty is the policy's target, else the first that an evaluator gave.

    Raises QueryRefused for an unknown task or metric.
    """
    asked = {"task": task}
    target = ask(_METRIC, parameters=asked).rows
    if not target:
        raise QueryRefused(f"No task {task!r} is in the history. `fedlog task list` shows those that exist.")
    known = [name for (name,) in ask(_METRICS, parameters=asked).rows]
    if metric and metric not in known:
        raise QueryRefused(
            f"Nothing of {task!r} was scored by {metric!r}, but by: {', '.join(known) or 'nothing yet'}."
        )
    chosen = metric or (target[0][0] if target[0][0] in known else next(iter(known), ""))
    versions, uploads, seconds, values = _turn(ask(_CURVE, parameters={**asked, "metric": chosen}), width=4)
    released, p50, p95 = _turn(ask(_STALENESS, parameters=asked), width=3)
    (admitted,) = _turn(ask(_PARTICIPATION, parameters=asked), width=1)
    [(mean,)] = ask(_STALENESS_MEAN, parameters=asked).rows
    return Series(task, chosen, versions, uploads, seconds, values, released, p50, p95, admitted, mean)


def average(name: str, group: Sequence[Series]) -> Series:
    """The mean of runs that differ in their seeds, version by version, as far as all of them came."""
    shared = sorted(set.intersection(*(set(one.versions) for one in group)))
    # Where a version was not scored in one run it would be the mean of the others.
    rows = [[one.versions.index(version) for one in group] for version in shared]

    def mean(column: Callable[[Series], Sequence[float]]) -> list[float]:
        return [fmean(column(one)[at] for one, at in zip(group, row, strict=True)) for row in rows]

    uploads = [round(value) for value in mean(lambda one: one.uploads)]
    seconds, values = mean(lambda one: one.seconds), mean(lambda one: one.values)
    return Series(name, group[0].metric, shared, uploads, seconds, values, [], [], [], [])


def read_lives(ask: Ask) -> tuple[list[Life], list[Branch]]:
    """Every task, the oldest first, and which of them starts from which."""
    return [Life(*row) for row in ask(_LIVES).rows], [Branch(*row) for row in ask(_BRANCHES).rows]


def _turn(found: Answer, *, width: int) -> list[list[Any]]:
    """The columns of an answer; of one without rows as many empty ones."""
    return [list(column) for column in zip(*found.rows, strict=True)] or [[] for _ in range(width)]
