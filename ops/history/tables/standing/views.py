"""Tasks as the console shows them, out of the tables: the same values that `ops.history.projections` folds.

All is one question, so that it is of one moment, and only what stands on a screen is asked for, so that a long history
costs hardly more than a short one. Called by the commands of tasks and models.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from ops.history.makeup import Makeup
from ops.history.tables.standing.reading import read_event
from ops.history.task_view import TaskView, evolve, hear_voice
from schemas.events import (
    DeviceQuarantined,
    ModelPublished,
    RoundCharged,
    TaskCreated,
    TaskHalted,
    VersionEvaluated,
    name_unit,
)
from schemas.identifiers import TASK_PATTERN, TaskId
from schemas.policy.metrics import MetricSums

if TYPE_CHECKING:
    from ops.history.tables.answers import Answer

Versions = Literal["newest", "scored", "all", "only"]
# What a list of versions shows: to count a task's leases and refusals beside it takes longer than the list itself.
_OF_VERSIONS = frozenset(("hidden", "created", "seen", "published", "evaluated", "voices", "made_of"))
_NAME = re.compile(TASK_PATTERN)
_NEWEST = "QUALIFY row_number() OVER (PARTITION BY task ORDER BY version DESC) = 1"
# All rows of a part in one cell: to hand over thousands of cells takes longer than to find what is in them.
_PART = "SELECT '{name}' AS part, task, to_json(list(value)) AS values FROM ({sql}) AS part (task, value) GROUP BY task"


@dataclass(slots=True)
class CountedView(TaskView):
    """A view whose leases and participations are numbers: to list a million of them would answer nobody."""

    leases_open: int = 0
    participations_most: int = 0

    @property
    def leases_in_flight(self) -> int:
        """Leases that are neither used nor over."""
        return self.leases_open

    @property
    def participations_max(self) -> int:
        """How often the busiest device has taken part in this task."""
        return self.participations_most


@dataclass(frozen=True, slots=True)
class Views:
    """Tasks by name, as far as the log was known; `until_ms` is the append time of the newest record."""

    tasks: dict[TaskId, TaskView]
    until_ms: int | None
    # The tasks that measure a task, by its name.
    measured_by: dict[TaskId, list[TaskId]]


def read_views(
    ask: Callable[[str], Answer], task: TaskId | None = None, *, versions: Versions = "newest"
) -> Views | None:
    """Every task, or one; `versions` says of how many versions: the newest, that and every score, or all.

    `only`: all versions with their scores and makeups, and of the task nothing but its creation.

    None where the tables are for readers and leave out of a private task what a view of it needs.
    """
    # What goes into a question is a name, whatever somebody has typed.
    if task is not None and not _NAME.fullmatch(task):
        return Views({}, None, {})
    answer = ask(_make_sql(task, versions=versions))
    told: defaultdict[TaskId, defaultdict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for part, name, values in answer.rows:
        told[name][part] = msgspec.json.decode(values)
    if any("hidden" in parts for parts in told.values()):
        return None
    views = {name: _make_view(name, parts) for name, parts in told.items()}
    return Views(views, answer.until_ms, {name: sorted(parts["measured_by"]) for name, parts in told.items()})


def _make_sql(task: TaskId | None, *, versions: Versions) -> str:
    words = {
        "TASK": "task IS NOT NULL" if task is None else f"task = '{task}'",
        "NEWEST": "" if versions in ("all", "only") else _NEWEST,
        "SCORED": "" if versions != "newest" else _NEWEST,
    }
    text = resources.files(__package__).joinpath("views.toml").read_text(encoding="utf-8")
    for word, sql in words.items():
        text = text.replace(word, sql)
    parts = tomllib.loads(text)
    names = [name for name in parts if versions != "only" or name in _OF_VERSIONS]
    # One question, so that a writer beside it cannot come between two of them.
    return " UNION ALL ".join(_PART.format(name=name, sql=parts[name]) for name in names)


def _make_view(name: TaskId, told: dict[str, list[Any]]) -> TaskView:
    def get(part: str, default: Any = None) -> Any:
        return told[part][0] if told.get(part) else default

    def get_counts(part: str) -> Counter[str]:
        return Counter({each["r"]: each["n"] for each in told.get(part, ())})

    view = CountedView(name, noticed="rounds" in told.get("seen", ()), paused=get("paused", default=False))
    view.closed = bool(get("closed"))
    if (created := get("created")) is not None:
        view.created, view.created_ms = read_event(TaskCreated, created), created["at_ms"]
    if (halted := get("halted")) is not None:
        view.halted = read_event(TaskHalted, halted)
    view.rounds_pending = {*told.get("pending", ())}
    # The next round opens in the decision that proposes the last: one that was not ended is filling.
    if get("round", -1) > get("ended", -1):
        view.round, view.buffer_fill = get("round"), get("buffer", 0)
    admitted = get("admitted", {"n": 0, "stale": 0, "most": 0})
    view.admitted, view.staleness_sum, view.staleness_max = admitted["n"], admitted["stale"], admitted["most"]
    view.participations_most = get("participations", 0)
    quarantined = [read_event(DeviceQuarantined, row) for row in told.get("quarantined", ())]
    view.quarantined = {name_unit(event): event for event in quarantined}
    view.zeroed, view.refused, view.declined = get_counts("zeroed"), get_counts("refused"), get_counts("declined")
    view.abandoned, view.leases_abandoned = get_counts("abandoned"), get_counts("given_up")
    closed = get("leases", {"n": 0, "expired": 0})
    view.leases_granted = get("granted", 0)
    view.leases_open, view.leases_expired = view.leases_granted - (closed["n"] - get("twice", 0)), closed["expired"]
    view.charges = [read_event(RoundCharged, row) for row in told.get("charged", ())]
    _add_versions(view, told)
    return view


def _add_versions(view: TaskView, told: dict[str, list[Any]]) -> None:
    for row in told.get("published", ()):
        view.published[row["version"]] = read_event(ModelPublished, row)
        view.published_ms[row["version"]] = row["log_ms"]
    has_finals = view.created is not None and view.created.policy.evaluation.has_finals
    for row in () if has_finals else told.get("evaluated", ()):
        view.evaluations[row["version"]] = read_event(VersionEvaluated, row)
    # Of an evaluator that speaks twice the first word counts, and a list has no order of its own.
    for row in sorted(told.get("voices", ()), key=itemgetter("at_offset")):
        evaluated = read_event(VersionEvaluated, row)
        # Of cohorts it is what evaluators say themselves, and not what the aggregator has noticed.
        (evolve if evaluated.cohort else hear_voice)(view, evaluated)
    for row in told.get("reported", ()):
        view.reported[row["version"]] = MetricSums(sums=tuple(row["sums"]), samples=row["samples"])
    for row in told.get("made_of", ()):
        version, squares = row.pop("version"), int(row.pop("weight_squares"))
        view.makeups[version] = Makeup(**row, weight_squares=squares)
