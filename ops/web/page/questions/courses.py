"""How a task got where it stands: scores and durations by version, scores by cohort, and the course of its budget."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ops.history.tables.answers import Question
from ops.history.tables.catalogue import insert_scores
from ops.web.page.moment import Moment, Row
from ops.web.page.questions.overview import Budget

# More points than that no card shows apart; every n-th version stands for those around it.
POINTS_MAX = 120
FORECAST_CHARGES, VERSIONS_SHOWN = 20, 12

_NEWEST = "SELECT max(version) AS version FROM facts.model_published WHERE task = $task"
_SCORES = insert_scores("""
    SELECT version, metrics FROM SCORED_VERSIONS AS scored
    WHERE task = $task AND (version % $step = 0 OR version = $newest) ORDER BY version""")
_DURATIONS = """
    SELECT version, (published.at_ms - opened.at_ms) / 1000 AS seconds
    FROM facts.model_published AS published JOIN facts.round_opened AS opened USING (task, round)
    WHERE task = $task AND (version % $step = 0 OR version = $newest) ORDER BY version"""
_VERSIONS = """
    SELECT version, members, model_size, at_ms FROM facts.model_published WHERE task = $task
    ORDER BY version DESC LIMIT $limit"""
# Of versions that there are alone: an evaluator that lies may name any.
_STANDINGS = """
    SELECT version, cohort, status, standing, metrics FROM scores
    SEMI JOIN (SELECT version FROM facts.model_published WHERE task = $task ORDER BY version DESC LIMIT $limit)
        USING (version)
    WHERE task = $task ORDER BY version DESC, cohort"""
_CHARGES = """
    SELECT round, rho_total, epsilon, participations_max FROM facts.round_charged WHERE task = $task
    ORDER BY round DESC LIMIT $limit"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Scores by metric, and the seconds of each round: points (version, value)."""

    newest: int
    scores: dict[str, list[tuple[int, float]]]
    durations: Sequence[tuple[int, float]]


def ask_for_courses(task: str) -> list[Question]:
    """What this module asks first, for a view that asks it together with more."""
    return [
        (_NEWEST, {"task": task}),
        (_VERSIONS, {"task": task, "limit": VERSIONS_SHOWN}),
        (_STANDINGS, {"task": task, "limit": VERSIONS_SHOWN}),
        (_CHARGES, {"task": task, "limit": FORECAST_CHARGES}),
    ]


def ask_for_course(moment: Moment, task: str) -> list[Question]:
    """What `trace_course` asks, once the first questions are answered."""
    newest = _find_newest(moment, task)
    # The newest version is shown whatever the step is: it is what people look for.
    asked = {"task": task, "newest": newest, "step": newest // POINTS_MAX + 1}
    return [(_SCORES, asked), (_DURATIONS, asked)]


def _find_newest(moment: Moment, task: str) -> int:
    return moment.ask_one(_NEWEST, task=task).get("version") or 0


def trace_course(moment: Moment, task: str) -> Course:
    """Every version of a task, or every n-th."""
    scored, lasted = moment.ask_all(*ask_for_course(moment, task))
    newest = _find_newest(moment, task)
    scores: dict[str, list[tuple[int, float]]] = {}
    for row in scored:
        for name, value in json.loads(row["metrics"]).items():
            # A loss that is not a number would have no place on any scale.
            if value is not None and math.isfinite(value):
                scores.setdefault(name, []).append((row["version"], float(value)))
    durations = [(row["version"], row["seconds"]) for row in lasted]
    return Course(newest=newest, scores=scores, durations=durations)


def list_versions(moment: Moment, task: str, *, limit: int = VERSIONS_SHOWN) -> list[Row]:
    """The newest versions, the newest first."""
    return moment.ask(_VERSIONS, task=task, limit=limit)


def list_standings(moment: Moment, task: str) -> list[Row]:
    """How the newest versions are scored, by cohort, the newest first: `metrics` where a score is final."""
    rows = moment.ask(_STANDINGS, task=task, limit=VERSIONS_SHOWN)
    return [{**row, "metrics": json.loads(row["metrics"] or "{}")} for row in rows]


def forecast_end(moment: Moment, task: str, *, budget: Budget, version: int | None) -> int | None:
    """The version at which the budget will end if the next rounds spend as the last ones; None where none does."""
    charges = moment.ask(_CHARGES, task=task, limit=FORECAST_CHARGES)
    if len(charges) < 2 or version is None:
        return None
    last, first = charges[0], charges[-1]
    # Over the last charges only, because cohorts and rates change while a task goes on.
    spent = last["rho_total"] - first["rho_total"]
    if spent <= 0:
        return None
    rounds = (budget.rho_max - budget.rho) / (spent / (last["round"] - first["round"]))
    return version + max(0, int(rounds))
