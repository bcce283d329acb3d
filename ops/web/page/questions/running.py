"""One task as it stands: its round with the updates in it, who took part, what was refused, what is left to spend."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ops.history.tables.answers import Question
from ops.web.page.moment import Moment, Row

TRIPS_MAX = 24

_ROUND = """
    SELECT round, at_ms FROM facts.round_opened WHERE task = $task ORDER BY round DESC LIMIT 1"""
_ENDS = """
    SELECT 'proposed' AS step, at_ms, members FROM facts.round_proposed WHERE task = $task AND round = $round
    UNION ALL BY NAME SELECT 'charged' AS step, at_ms FROM facts.round_charged WHERE task = $task AND round = $round
    UNION ALL BY NAME SELECT DISTINCT 'quarantined' AS step, at_ms FROM facts.device_quarantined
        WHERE task = $task AND round = $round
    UNION ALL BY NAME SELECT 'withheld' AS step, at_ms FROM facts.round_withheld WHERE task = $task AND round = $round
    UNION ALL BY NAME SELECT 'published' AS step, at_ms FROM facts.model_published WHERE task = $task AND round = $round
    UNION ALL BY NAME SELECT 'abandoned' AS step, at_ms FROM facts.round_abandoned WHERE task = $task AND round = $round
    ORDER BY at_ms,
        list_position(['proposed', 'charged', 'quarantined', 'withheld', 'published', 'abandoned'], step)"""
_BOUNDS = """
    SELECT min(version) AS version_first, max(version) AS version_last, min(input_offset) AS offset_first,
        max(input_offset) AS offset_last FROM facts.update_admitted WHERE task = $task AND round = $round"""
# Leases and submissions lie in the order of time: with their bounds a few thousand are looked at, and not all.
_MEMBERS = """
    WITH members AS (
        SELECT "update", device, version, staleness, weight, zeroed, clip_scale, at_ms, at_topic, at_partition,
            at_offset, at_number, input_offset, input_number
        FROM facts.update_admitted WHERE task = $task AND round = $round
    ), granted AS (
        SELECT * FROM facts.lease_granted WHERE task = $task AND version BETWEEN $version_first AND $version_last
    ), sent AS (SELECT * FROM facts.submission WHERE at_offset BETWEEN $offset_first AND $offset_last)
    SELECT members.*, granted.cohort, granted.log_ms AS checked_in_ms, granted.at_ms AS leased_ms, sent.at_ms AS sent_ms
    FROM members
    LEFT JOIN granted ON granted.lease = members."update"
    LEFT JOIN sent
        ON sent.at_partition = members.at_partition AND sent.at_offset = members.input_offset
        AND sent.at_number = members.input_number
    ORDER BY members.at_offset, members.at_number"""
_STALENESS = """
    SELECT staleness, count(*) AS updates FROM facts.update_admitted WHERE task = $task
    GROUP BY staleness ORDER BY staleness"""
_COHORTS = """
    WITH granted AS (
        SELECT device, arg_max(cohort, at_ms) AS cohort, count(*) AS leases FROM facts.lease_granted
        WHERE task = $task GROUP BY device
    ), admitted AS (
        SELECT device, count(*) AS admitted FROM facts.update_admitted WHERE task = $task GROUP BY device
    )
    SELECT cohort, count(*) AS devices, sum(leases)::BIGINT AS leases, coalesce(sum(admitted), 0)::BIGINT AS admitted
    FROM granted LEFT JOIN admitted USING (device) GROUP BY cohort ORDER BY admitted DESC, cohort"""
_REFUSED = """
    SELECT 'refused' AS how, reason, count(*) AS updates FROM facts.update_refused WHERE task = $task GROUP BY reason
    UNION ALL BY NAME
    SELECT 'counted as zero' AS how, zeroed AS reason, count(*) AS updates FROM facts.update_admitted
    WHERE task = $task AND zeroed IS NOT NULL GROUP BY zeroed
    UNION ALL BY NAME
    SELECT 'lease ' || outcome AS how, coalesce(reason, '') AS reason, count(*) AS updates FROM facts.lease_closed
    WHERE task = $task AND outcome IN ('expired', 'abandoned') GROUP BY ALL
    ORDER BY updates DESC"""
_COUNTED = """
    SELECT 'not decided' AS how, counts FROM facts.updates_declined WHERE task = $task
    UNION ALL SELECT 'check-in declined', counts FROM facts.checkins_declined WHERE task = $task"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: its members in the order of their admission, and what became of it: (step, time)."""

    number: int
    opened_ms: int
    members: Sequence[Row]
    steps: Sequence[tuple[str, int]]

    @property
    def is_filling(self) -> bool:
        """Whether it still takes updates."""
        return not self.steps


@dataclass(frozen=True, slots=True)
class Loss:
    """Work that is in no version: what became of it, why, and how often."""

    how: str
    reason: str
    count: int


def ask_for_standing(task: str) -> list[Question]:
    """What this module asks first, for a view that asks it together with more."""
    return [(sql, {"task": task}) for sql in (_ROUND, _STALENESS, _COHORTS, _REFUSED, _COUNTED)]


def ask_for_rounds(moment: Moment, task: str) -> list[Question]:
    """What `find_round` asks of the newest two rounds, once the first questions are answered."""
    newest = moment.ask_one(_ROUND, task=task).get("round")
    numbers = () if newest is None else (newest, max(0, newest - 1))
    return [(sql, {"task": task, "round": number}) for number in numbers for sql in (_ENDS, _BOUNDS)]


def find_round(moment: Moment, task: str, *, number: int | None = None) -> Round | None:
    """A round of a task, the newest unless it is named; None where there is none."""
    newest = moment.ask_one(_ROUND, task=task)
    if not newest:
        return None
    number = newest["round"] if number is None else number
    # A round that is named may be over; what became of it is asked in the same way.
    found = {"task": task, "round": number}
    ends, [bounds] = moment.ask_all((_ENDS, found), (_BOUNDS, found))
    return Round(
        number=number,
        opened_ms=newest["at_ms"],
        members=[] if bounds["version_first"] is None else moment.ask(_MEMBERS, **found, **bounds),
        steps=[(row["step"], row["at_ms"]) for row in ends],
    )


def find_staleness_max(moment: Moment, task: str) -> int:
    """From which staleness on the policy refuses an update."""
    found = moment.ask_one("SELECT any_value(staleness_max) AS most FROM policies WHERE task = $task", task=task)
    return int(found.get("most") or 0)


def count_staleness(moment: Moment, task: str) -> list[tuple[int, int]]:
    """How many admitted updates had which staleness; every number up to the largest, so that gaps show."""
    # A staleness that nobody had is a gap, and a gap is seen only where it has a place.
    found = {row["staleness"]: row["updates"] for row in moment.ask(_STALENESS, task=task)}
    return [(staleness, found.get(staleness, 0)) for staleness in range(max(found, default=-1) + 1)]


def list_cohorts(moment: Moment, task: str) -> list[Row]:
    """Each cohort: how many devices, leases, and admitted updates. A device is in the cohort that it named last."""
    return moment.ask(_COHORTS, task=task)


def list_losses(moment: Moment, task: str) -> list[Loss]:
    """What was refused, counted as zero, declined or ran out, the most frequent first."""
    found = [Loss(row["how"], row["reason"], row["updates"]) for row in moment.ask(_REFUSED, task=task)]
    # Counts of a batch are summed here, because JSON has no columns to group by.
    counted: Counter[tuple[str, str]] = Counter()
    for row in moment.ask(_COUNTED, task=task):
        for reason, count in json.loads(row["counts"]).items():
            counted[row["how"], reason] += count
    found += [Loss(how, reason, count) for (how, reason), count in counted.items()]
    return sorted(found, key=lambda loss: (-loss.count, loss.how, loss.reason))
