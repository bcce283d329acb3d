"""What was found of drift in the answers of measure tasks, and what of it stands."""

from __future__ import annotations

from collections.abc import Collection

from ops.history.tables.answers import Question
from ops.web.page.moment import Moment, Row, Rows
from schemas.policy import Gate

WORDS_MAX = 60

_WORDS = """
WITH words AS (
    SELECT *, 'found' AS step FROM facts.drift_found WHERE task = $task AND at_topic = 'rounds'
    UNION ALL BY NAME SELECT *, 'ended' AS step FROM facts.drift_ended WHERE task = $task AND at_topic = 'rounds'
)
SELECT task, version, since, step, cohort, kind, measure, value / 1e6 AS value, bound / 1e6 AS bound,
    by_chance / 1e6 AS by_chance, reference, reference_version, at_ms, at_partition, at_offset
FROM words"""
# Found is said again with each version, so that what people look for are crossings and ends.
_NEWEST = f"""{_WORDS} WHERE step = 'ended' OR version = since ORDER BY at_offset DESC, at_number DESC LIMIT $limit"""
_LAST = """
QUALIFY step = 'found'
    AND row_number() OVER (PARTITION BY kind, cohort, measure ORDER BY at_offset DESC, at_number DESC) = 1
ORDER BY kind, cohort, measure"""
_STANDING = _WORDS + _LAST
# What was before its own task a rollout knows nothing of.
_HEARD = f"""{_WORDS} SEMI JOIN (
    SELECT at_partition, input_offset AS at_offset FROM facts.noticed_fact
    WHERE at_topic = 'rollouts' AND event IN ('DriftFound', 'DriftEnded') AND at_ms >= $since_ms
) USING (at_partition, at_offset){_LAST}"""


def ask_for_drift(task: str) -> list[Question]:
    """What this module asks of a task, for a view that asks it together with more."""
    return [(_NEWEST, {"task": task, "limit": WORDS_MAX}), (_STANDING, {"task": task})]


def list_words(moment: Moment, task: str) -> Rows:
    """Each crossing and each end, the newest first."""
    return moment.ask(_NEWEST, task=task, limit=WORDS_MAX)


def list_standing(moment: Moment, task: str) -> Rows:
    """What stands beyond its bound, with the newest distance."""
    return moment.ask(_STANDING, task=task)


def list_heard(moment: Moment, tasks: Collection[str], *, since_ms: int) -> Rows:
    """The same of several tasks, as far as rollouts have heard of it since then."""
    questions: list[Question] = [(_HEARD, {"task": task, "since_ms": since_ms}) for task in sorted(tasks)]
    return [row for rows in moment.ask_all(*questions) for row in rows]


def is_beyond(gate: Gate, row: Row) -> bool:
    """Whether what stands holds back whoever is behind a gate: its task, its measure, and its cohort or any."""
    is_about = (gate.drift_of, gate.metric) == (row["task"], row["measure"]) and gate.cohort in ("", row["cohort"])
    return is_about and row["value"] > (gate.drift_max or 0.0)
