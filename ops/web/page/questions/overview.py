"""Every task as one line: how it stands, how it does, how full its buffer is, what it has spent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from ops.history.tables.answers import Question
from ops.history.tables.catalogue import insert_scores
from ops.web.page.formats import to_ms
from ops.web.page.moment import Moment, Row
from schemas.policy import Policy, Spending, compute_rho

TASKS_MAX = 200
SPARK_POINTS = 60

_NAME = "SELECT task FROM facts.task_created WHERE task = $task LIMIT 1"
# `{only}` chooses one task, or all.
_TASKS = """
    SELECT tasks.*, policy, spent_before FROM tasks
    JOIN (SELECT task, any_value(policy) AS policy FROM policies GROUP BY task) USING (task)
    JOIN (SELECT task, any_value(spent_before) AS spent_before FROM facts.task_created GROUP BY task) USING (task)
    WHERE {only} ORDER BY halted_at IS NOT NULL, status <> 'running', created_at DESC, task LIMIT $limit"""
_BUFFERS = """
    WITH newest AS (SELECT task, max(round) AS round FROM facts.round_opened WHERE {only} GROUP BY task), filling AS (
        SELECT * FROM newest WHERE (task, round) NOT IN (
            SELECT (task, round) FROM facts.round_proposed UNION ALL SELECT (task, round) FROM facts.round_abandoned)
    )
    SELECT task, round, count("update") AS filled FROM filling
    LEFT JOIN facts.update_admitted USING (task, round) GROUP BY task, round"""
_AT_WORK = """
    WITH granted AS (SELECT task, lease FROM facts.lease_granted WHERE deadline_ms >= $until AND {only})
    SELECT task, count(*) AS devices FROM granted ANTI JOIN facts.lease_closed USING (lease) GROUP BY task"""
_SPENT = """
    SELECT task, max(rho_total) AS rho, max(epsilon) AS epsilon, any_value(delta) AS delta, count(*) AS charges
    FROM facts.round_charged WHERE {only} GROUP BY task"""
_SCORES = insert_scores("""
    SELECT task, version, metrics FROM SCORED_VERSIONS AS scored WHERE {only}
    QUALIFY row_number() OVER (PARTITION BY task ORDER BY version DESC) <= $points
    ORDER BY task, version""")
# What a task tells of itself; what is told a thousand times a second is asked only for its time.
_TOLD = {
    "created": "task_created",
    "check-in granted": "lease_granted",
    "update admitted": "update_admitted",
    "update refused": "update_refused",
    "round proposed": "round_proposed",
    "round charged": "round_charged",
    "version published": "model_published",
    "version evaluated": "version_evaluated",
    "paused": "task_paused",
    "resumed": "task_resumed",
    "closed": "task_closed",
    "halted": "task_halted",
}
_LAST = (
    "SELECT task, arg_max(event, at_ms) AS event, max(at_ms) AS at_ms FROM ("
    + " UNION ALL ".join(
        f"SELECT task, '{name}' AS event, max(at_ms) AS at_ms FROM facts.{table} WHERE {{only}} GROUP BY task"
        for name, table in _TOLD.items()
    )
    + ") GROUP BY task"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a private task may spend, and has spent; ε is None before its first charge."""

    rho: float
    rho_max: float
    epsilon: float | None
    delta: float | None

    @property
    def left(self) -> float:
        """The share that is left, 0 to 1."""
        return max(0.0, 1 - self.rho / self.rho_max) if self.rho_max else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """One task. `scores` are those of its headline metric, version by version, the newest last."""

    task: str
    kind: str
    status: str
    version: int | None
    versions_max: int
    parent: str | None
    created_ms: int
    halted_ms: int | None
    policy: Policy
    metric: str | None
    scores: Sequence[tuple[int, float]]
    filled: int | None
    size: int
    at_work: int
    budget: Budget | None
    last_event: str
    last_ms: int | None

    @property
    def is_over(self) -> bool:
        """Whether it goes on no more."""
        return self.status.startswith("halted")


def find_task(moment: Moment, task: str) -> str | None:
    """The name of a task that there is; None for any other."""
    name: str | None = moment.ask_one(_NAME, task=task).get("task")
    return name


def ask_for_tasks(moment: Moment, task: str = "") -> list[Question]:
    """What `list_tasks` asks, for a view that asks it together with more."""
    only, named = ("task = $task", {"task": task}) if task else ("true", {})
    asked: list[Question] = [
        (_TASKS, {"limit": TASKS_MAX}),
        (_BUFFERS, {}),
        (_AT_WORK, {"until": moment.until_ms}),
        (_SPENT, {}),
        (_LAST, {}),
        (_SCORES, {"points": SPARK_POINTS}),
    ]
    return [(sql.format(only=only), {**parameters, **named}) for sql, parameters in asked]


def list_tasks(moment: Moment, task: str = "") -> list[TaskLine]:
    """All tasks, or one: those that go on first, then those that are over; the youngest first."""
    found, buffers, at_work, spent, last, scored = moment.ask_all(*ask_for_tasks(moment, task))
    told = {"buffer": buffers, "at_work": at_work, "spent": spent, "last": last}
    by_task = {name: {row["task"]: row for row in rows} for name, rows in told.items()}
    scores: dict[str, list[Row]] = {}
    for row in scored:
        scores.setdefault(row["task"], []).append(row)
    return [
        # A task of which a question found nothing has an empty answer to it.
        _make_line(
            row,
            {name: rows.get(row["task"], {}) for name, rows in by_task.items()},
            scores=scores.get(row["task"], []),
        )
        for row in found
    ]


def _make_line(row: Row, told: Mapping[str, Row], *, scores: Sequence[Row]) -> TaskLine:
    policy = read_policy(row["policy"])
    metrics = [(score["version"], json.loads(score["metrics"])) for score in scores]
    metric = choose_metric(policy, metrics[-1][1] if metrics else {})
    created_ms = to_ms(row["created_at"])
    # A task without a creation is no task, and in no row.
    assert created_ms is not None
    return TaskLine(
        task=row["task"],
        kind=row["kind"],
        status=row["status"],
        version=row["version"],
        versions_max=policy.stop.versions_max,
        parent=row["parent"],
        created_ms=created_ms,
        halted_ms=to_ms(row["halted_at"]),
        policy=policy,
        metric=metric,
        scores=[(version, values[metric]) for version, values in metrics if metric in values],
        filled=told["buffer"].get("filled"),
        size=policy.aggregation.updates_per_round,
        at_work=told["at_work"].get("devices", 0),
        budget=make_budget(policy, told["spent"], spent_before=row["spent_before"]),
        last_event=told["last"].get("event", ""),
        last_ms=told["last"].get("at_ms"),
    )


def read_policy(text: str) -> Policy:
    """A policy out of the history."""
    return msgspec.json.decode(text, type=Policy)


def choose_metric(policy: Policy, metrics: Mapping[str, float]) -> str | None:
    """The metric that stands for a task where there is room for one: the first that its policy names."""
    # A learner of its own may name its metrics as it likes.
    asked = (*policy.evaluation.metrics, "accuracy", *sorted(metrics))
    return next((name for name in asked if name in metrics), None)


def make_budget(policy: Policy, spent: Row, *, spent_before: str) -> Budget | None:
    """None for a task without privacy. Before its first charge it has spent what the tasks before it have."""
    privacy = policy.privacy
    if not privacy:
        return None
    # What the tasks before it spent counts against the same budget.
    before = msgspec.json.decode(spent_before, type=tuple[Spending, ...])
    return Budget(
        rho=spent["rho"] if spent else float(compute_rho(before)),
        rho_max=privacy.rho_max,
        epsilon=spent.get("epsilon"),
        delta=spent.get("delta", privacy.delta),
    )
