"""What a report asks the history: only what anybody may see of a private task, and all of it as of one position."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from ops.history.tables.answers import Answer, QueryRefused
from ops.web.report.suppression import ShownSizes, suppress
from schemas.policy import Policy, Spending, compute_rho

Row = dict[str, Any]

_TASK = """
    SELECT tasks.*, policies.policy, created.at_partition AS partition, created.spent_before
    FROM tasks JOIN policies USING (task)
    JOIN facts.task_created AS created USING (task) WHERE task = $task ORDER BY created.at_offset LIMIT 1"""
_SIZES = "SELECT cohort, count(*) AS devices FROM devices WHERE task = $task AND admitted > 0 GROUP BY cohort"
_VERSIONS = """
    SELECT count(*) AS versions, sum(client_count)::BIGINT AS updates, min(client_count) AS members_min,
        max(client_count) AS members_max, max(published_at) AS newest_at, arg_max(sha256, version) AS sha256
    FROM versions WHERE task = $task AND version > 0"""
_SCORES = """
    SELECT version, metrics FROM versions WHERE task = $task AND metrics IS NOT NULL ORDER BY version"""
_SPENT = """
    SELECT count(*) AS charges, max(rho_total) AS rho, max(participations_max) AS participations
    FROM ledger WHERE task = $task AND outcome = 'charged'"""
_UNTIL = "SELECT max(appended_at) AS until FROM events"
# Each gives what happened, why, and how often; an incident of a new kind is a line here.
_INCIDENTS = (
    """SELECT 'update refused' AS what, reason, count(*) AS count FROM facts.update_refused
    WHERE task = $task GROUP BY ALL""",
    """SELECT 'lease ' || outcome AS what, coalesce(reason, '') AS reason, count(*) AS count FROM facts.lease_closed
    WHERE task = $task AND outcome IN ('expired', 'abandoned') GROUP BY ALL""",
    """SELECT 'round withheld by the budget' AS what, reason, count(*) AS count FROM facts.round_withheld
    WHERE task = $task GROUP BY ALL""",
    """SELECT 'round given up' AS what, reason, count(*) AS count FROM facts.round_abandoned
    WHERE task = $task GROUP BY ALL""",
    "SELECT 'task halted' AS what, reason, count(*) AS count FROM facts.task_halted WHERE task = $task GROUP BY ALL",
    """SELECT 'task paused' AS what, '' AS reason, count(*) AS count FROM facts.task_paused
    WHERE task = $task GROUP BY ALL""",
)
_COUNTED = "SELECT counts FROM facts.updates_declined WHERE task = $task"
_WORKERS = """
    SELECT count(*) AS claims, count(DISTINCT actor) AS actors, sum(zombies)::BIGINT AS zombies,
        sum(strangers)::BIGINT AS strangers, sum(defects)::BIGINT AS defects
    FROM workers WHERE partition = $partition"""
_PRIVATE = """
    SELECT count(*) AS tasks FROM facts.task_created
    WHERE at_partition = $partition AND policy -> 'privacy' ->> 'noise_multiplier' IS NOT NULL"""


@dataclass(frozen=True, slots=True)
class Incident:
    """What did not go as it should, why, and how often."""

    what: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the ledger says: zCDP so far, and how often the busiest device took part."""

    charges: int
    rho: float
    participations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Everything that a report says of a task but the verdict. `workers`: claims, and what went wrong under them."""

    task: str
    status: str
    policy: Policy
    policy_sha256: str
    parameters: int
    parent: str | None
    created_at: datetime
    halted_at: datetime | None
    until: datetime
    versions: Row
    sizes: ShownSizes
    scores: Mapping[str, Sequence[tuple[int, float]]]
    spent: Spent
    incidents: Sequence[Incident]
    workers: Row


class _Asked:
    """Questions as of where the history stood at the first, so that the parts of a report fit each other."""

    def __init__(self, answer: Callable[..., Answer], task: str) -> None:
        self._answer, self._task = answer, task
        self._as_of: str | None = None

    def list(self, sql: str, **parameters: object) -> list[Row]:
        if "$task" in sql:
            parameters["task"] = self._task
        # Whoever makes it may be an operator, but those who read it are not.
        found = self._answer(sql, as_of=self._as_of, parameters=parameters, hides=True)
        self._as_of = self._as_of or str(found.position)
        return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def collect(answer: Callable[..., Answer], task: str) -> Told:
    """Everything of one task. Raises QueryRefused where there is none of that name."""
    asked = _Asked(answer, task)
    found = asked.list(_TASK)
    if not found:
        raise QueryRefused(f"No task {task!r} is in the history. `fedlog task list` shows those that exist.")
    row = found[0]
    policy = msgspec.json.decode(row["policy"], type=Policy)
    return Told(
        **{name: row[name] for name in ("task", "status", "policy_sha256", "parameters", "parent")},
        created_at=row["created_at"],
        halted_at=row["halted_at"],
        policy=policy,
        until=asked.list(_UNTIL)[0]["until"],
        versions=asked.list(_VERSIONS)[0],
        sizes=suppress({each["cohort"]: each["devices"] for each in asked.list(_SIZES)}),
        scores=_list_scores(asked.list(_SCORES)),
        spent=_find_spent(asked, row["spent_before"]),
        incidents=_list_incidents(asked),
        workers=_find_workers(asked, row["partition"]),
    )


def _find_spent(asked: _Asked, spent_before: str) -> Spent:
    row = asked.list(_SPENT)[0]
    # A task that carries on from others has spent what they have, before its own first charge.
    before = float(compute_rho(msgspec.json.decode(spent_before, type=tuple[Spending, ...])))
    return Spent(**{**row, "rho": row["rho"] or before, "participations": row["participations"] or 0})


def _list_scores(rows: Sequence[Row]) -> dict[str, list[tuple[int, float]]]:
    scores: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in json.loads(row["metrics"]).items():
            # A loss that is not a number has no place on any scale.
            if value is not None and math.isfinite(value):
                scores.setdefault(name, []).append((row["version"], float(value)))
    return scores


def _list_incidents(asked: _Asked) -> list[Incident]:
    rows = [row for sql in _INCIDENTS for row in asked.list(sql) if row["count"]]
    found = [Incident(row["what"], row["reason"].replace("_", " "), row["count"]) for row in rows]
    counted: Counter[str] = Counter()
    for row in asked.list(_COUNTED):
        counted.update(json.loads(row["counts"]))
    found += [Incident("update passed over", reason.replace("_", " "), count) for reason, count in counted.items()]
    return sorted(found, key=lambda one: (one.what, -one.count, one.reason))


def _find_workers(asked: _Asked, partition: int) -> Row:
    row = asked.list(_WORKERS, partition=partition)[0]
    # An update on which our code fails counts as zero, and what of a private task was zeroed is for operators only;
    # tasks that share a partition share the count.
    is_shown = asked.list(_PRIVATE, partition=partition)[0]["tasks"] == 0
    return row if is_shown else {**row, "defects": None}
