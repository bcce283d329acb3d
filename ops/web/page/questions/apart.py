"""Whose updates stood apart from the others, and who is let in no more for it."""

from __future__ import annotations

from dataclasses import dataclass

from ops.history.tables.answers import Question
from ops.web.page.moment import Moment, Row, Rows

ROWS_MAX = 60

_COUNTS = """
    SELECT (SELECT count(*) FROM facts.members_compared WHERE task = $task) AS rounds,
        (SELECT count(*) FROM anomalies WHERE task = $task) AS updates,
        (SELECT count(DISTINCT device) FROM anomalies WHERE task = $task) AS devices,
        (SELECT count(*) FROM quarantines WHERE task = $task AND lifted_at IS NULL) AS held"""
# Those that hold first: of these somebody may have to decide something.
_OF_TASK = """
    FROM quarantines WHERE task = $task ORDER BY lifted_at IS NOT NULL, quarantined_at DESC, device LIMIT $limit"""
_OF_DEVICE = """
    FROM quarantines WHERE device = $device ORDER BY lifted_at IS NOT NULL, quarantined_at DESC, task LIMIT $limit"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a task that compares its devices: rounds compared, updates and devices that stood apart, and who is out."""

    rounds: int
    updates: int
    devices: int
    held: int


def ask_for_apart(task: str) -> list[Question]:
    """What this module asks of a task, for a view that asks it together with more."""
    return [(_COUNTS, {"task": task})]


def count_apart(moment: Moment, task: str) -> Counts:
    """How many stood apart, and are out."""
    found: Row = moment.ask_one(_COUNTS, task=task)
    return Counts(**found)


def list_quarantines(moment: Moment, *, task: str = "", device: str = "") -> Rows:
    """The quarantines of a task, or of a device in all tasks: those that hold first."""
    if device:
        return moment.ask(_OF_DEVICE, device=device, limit=ROWS_MAX)
    return moment.ask(_OF_TASK, task=task, limit=ROWS_MAX)
