"""What the rollout of a task has done: its newest steps, what follows from them, and what devices say that they run."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ops.history.tables.answers import Question
from ops.web.page.formats import format_number
from ops.web.page.moment import Moment, Row, Rows

# The newest first; enough to reach back to the last rollback of all but the busiest rollouts.
_STEPS = """
SELECT version, step, other_version, stage, share, cohorts, reason, evidence, epoch_ms(decided_at) AS at_ms
FROM rollouts WHERE task = $task ORDER BY "offset" DESC, number DESC LIMIT 200
"""
# More versions at once are those of devices that are never updated, or of some that say anything.
RUNNING_MAX = 6
_RUNNING = """
SELECT version, devices, sum(devices) OVER ()::BIGINT AS total, epoch_ms(last_reported_at) AS at_ms FROM production
WHERE task = $task ORDER BY devices DESC, version DESC NULLS LAST LIMIT $limit
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a rollout stands by its steps, the newest first."""

    steps: list[Row]

    @property
    def promoted(self) -> int | None:
        """What everybody is to use."""
        for number, row in enumerate(self.steps):
            if row["step"] == "promoted":
                version: int = row["version"]
                return version
            # Of a candidate it leaves what is promoted as it was, and names it.
            if row["step"] in ("rolled back", "staged") and number >= 0:
                other: int | None = row["other_version"]
                return other
        return None

    @property
    def candidate(self) -> Row | None:
        """The newest step of the version that is tried; None where none is."""
        ends = ("promoted", "rolled back")
        moving = [row for row in self.steps if row["step"] in ("staged", "started", "grown", *ends)]
        return moving[0] if moving and moving[0]["step"] not in ends else None

    @property
    def last_rollback(self) -> Row | None:
        """The newest one."""
        return next((row for row in self.steps if row["step"] == "rolled back"), None)


def ask_for_steps(task: str) -> list[Question]:
    """What this module asks, for a view that asks it together with more."""
    return [(_STEPS, {"task": task}), (_RUNNING, {"task": task, "limit": RUNNING_MAX})]


def find_standing(moment: Moment, task: str) -> Standing | None:
    """Where the rollout stands; None where the task has none, or nothing was tried yet."""
    steps = moment.ask(_STEPS, task=task)
    return Standing(steps) if steps else None


def list_running(moment: Moment, task: str) -> Rows:
    """How many devices say that they run which version, the most first; without one: versions that never were."""
    return moment.ask(_RUNNING, task=task, limit=RUNNING_MAX)


def name_running(row: Row) -> str:
    """What a row of `list_running` counts."""
    return "never published" if row["version"] is None else f"version {row['version']}"


def tell_running(rows: Rows) -> str:
    """All of it on one line: it is what devices say, and nobody has looked."""
    if not rows:
        return "no device has said"
    told = [f"{name_running(row)}: {_count_devices(row['devices'])}" for row in rows]
    rest = rows[0]["total"] - sum(row["devices"] for row in rows)
    return ", ".join([*told, *([f"others: {_count_devices(rest)}"] if rest else [])])


def _count_devices(count: int) -> str:
    return f"{format_number(count)} device{'' if count == 1 else 's'}"


def tell_reason(row: Row) -> str:
    """Why a version was rolled back, with the first two scores that it rests on."""
    scores = json.loads(row["evidence"] or "[]")
    told = [_tell(score) for score in scores[:2]]
    return f"{row['reason']}: {'; '.join(told)}" if told else str(row["reason"])


def _tell(score: object) -> str:
    # As the log has it: an array, whose places are those of the event's fields.
    named = score if isinstance(score, dict) else dict(zip(_FIELDS, score, strict=False))  # type: ignore[call-overload]
    where = f" in {named['cohort']}" if named["cohort"] else ""
    return f"{named['metric']} {named['value']:.4g} of version {named['version']}{where}"


_FIELDS = ("version", "cohort", "evaluator", "metric", "value", "samples")
