"""What a version is made of and why, how two versions differ, who takes part: questions to the history, put together.

Called by `fedlog explain`, `fedlog diff` and `fedlog devices`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops.history.tables.answers import Answer, QueryRefused
from schemas.identifiers import TASK_PATTERN, TaskId, Version

Ask = Callable[[str], Answer]
_NAME = re.compile(TASK_PATTERN)


@dataclass(frozen=True, slots=True)
class Part:
    """One question and its answer: what it says, in words, and the table."""

    title: str
    answer: Answer

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as objects."""
        return [dict(zip(self.answer.columns, row, strict=True)) for row in self.answer.rows]


# `{round}` is the window of the version's round; every part names the records that decided what it shows.
_ROUND = """
(SELECT round_id, opened_at, coalesce(published_at, proposed_at) AS closed_at, version FROM rounds
 WHERE task = '{task}' AND version = {version})
"""
_PARTS = {
    "version": """
        SELECT version, round_id, client_count, metrics, sha256, members_root, published_at, topic, partition, "offset"
        FROM versions WHERE task = '{task}' AND version = {version}""",
    "members": """
        SELECT device, cohort, base_version, staleness, weight / weight_one AS weight, clip_scale, zeroed, samples,
            update_id, sha256, topic, partition, "offset"
        FROM updates JOIN policies USING (task) WHERE task = '{task}' AND version = {version}
        ORDER BY decided_at, "offset", update_id""",
    "refused meanwhile": """
        SELECT updates.outcome, updates.device, base_version, update_id, decided_at, topic, partition, "offset"
        FROM updates, {round} AS span
        WHERE task = '{task}' AND outcome <> 'admitted' AND decided_at BETWEEN opened_at AND closed_at
        ORDER BY decided_at""",
    "declined meanwhile": """
        SELECT events.event, events.values ->> 'counts' AS counts, appended_at, topic, partition, "offset"
        FROM events, {round} AS span
        WHERE event IN ('CheckinsDeclined', 'UpdatesDeclined') AND events.task = '{task}'
            AND appended_at BETWEEN opened_at AND closed_at
        ORDER BY appended_at""",
    "ledger": """
        SELECT round_id, outcome, noise_multiplier, participations_max, coalesce(lag(rho_total) OVER by_time, 0) AS
            rho_before, rho_total AS rho_after, lag(epsilon) OVER by_time AS epsilon_before, epsilon AS epsilon_after,
            delta, topic, partition, "offset"
        FROM ledger WHERE task = '{task}' WINDOW by_time AS (ORDER BY decided_at, "offset")
        QUALIFY round_id = (SELECT round_id FROM {round})""",
    "scores": """
        SELECT cohort, standing, voices, quorum, metrics, samples FROM scores
        WHERE task = '{task}' AND version = {version} ORDER BY cohort""",
    "evaluation by cohort": """
        SELECT cohort, evaluator, source, metric, value, samples, evaluated_at FROM evaluations
        WHERE task = '{task}' AND version = {version} ORDER BY cohort, metric, evaluator, source""",
    "decided by": """
        SELECT event, appended_at, topic, partition, "offset" FROM events, {round} AS span
        WHERE events.task = '{task}'
            AND event IN ('RoundOpened', 'RoundProposed', 'RoundCharged', 'SumStored', 'ModelPublished')
            AND (events.values ->> 'round')::BIGINT = span.round_id
        ORDER BY appended_at, "offset", number""",
}
_DIFFERENCES = {
    "versions": """
        SELECT version, round_id, client_count, metrics, sha256, published_at FROM versions
        WHERE task = '{task}' AND version IN ({version}, {other}) ORDER BY version""",
    "updates": """
        SELECT version, count(*) AS updates, count(DISTINCT device) AS devices, avg(staleness) AS staleness_mean,
            max(staleness) AS staleness_max, sum(weight / weight_one) AS weight, avg(clip_scale) AS clip_scale_mean,
            count(zeroed) AS zeroed
        FROM updates JOIN policies USING (task) WHERE task = '{task}' AND version IN ({version}, {other})
        GROUP BY version ORDER BY version""",
    "devices in one of them": """
        SELECT device, any_value(cohort) AS cohort, min(version) AS only_in FROM updates
        WHERE task = '{task}' AND version IN ({version}, {other})
        GROUP BY device HAVING count(DISTINCT version) = 1 ORDER BY only_in, device""",
    "in between": """
        SELECT count(*) AS versions, sum(client_count)::BIGINT AS updates FROM versions
        WHERE task = '{task}' AND version > least({version}, {other}) AND version <= greatest({version}, {other})""",
}
# A share of nothing is NULL, and a cohort of devices that never had a lease is in no table: check-ins are only counted.
_TAKING_PART = {
    "cohorts": """
        SELECT cohort, count(*) AS devices, sum(leases)::BIGINT AS leases, sum(admitted)::BIGINT AS admitted,
            sum(refused)::BIGINT AS refused, sum(expired)::BIGINT AS expired, sum(abandoned)::BIGINT AS abandoned,
            sum(staleness_mean * admitted) / nullif(sum(admitted), 0) AS staleness_mean,
            count(*) / sum(count(*)) OVER () AS share_of_devices,
            sum(admitted) / nullif(sum(sum(admitted)) OVER (), 0) AS share
        FROM devices WHERE task = '{task}' GROUP BY cohort ORDER BY share DESC, cohort""",
    "devices": """
        SELECT device, cohort, leases, admitted, refused, expired, abandoned, staleness_mean,
            admitted / nullif(sum(admitted) OVER (), 0) AS share, running, running_at
        FROM devices WHERE task = '{task}' ORDER BY admitted DESC, leases DESC, device""",
    "production": """
        SELECT version, devices, last_reported_at FROM production WHERE task = '{task}'
        ORDER BY devices DESC, version DESC""",
    "check-ins": """
        SELECT reason, count, first_at, last_at FROM checkins WHERE task = '{task}' ORDER BY count DESC, reason""",
}
# Asked only of a task whose policy compares devices: of any other it would say nothing, in so many words.
_SET_APART = {
    "quarantined": """
        SELECT device, subject, round_id, rounds, distance, norm, cosine, cosine_past, z, quarantined_at, lifted_at
        FROM quarantines WHERE task = '{task}' ORDER BY lifted_at IS NOT NULL, quarantined_at, device""",
    "stood apart": """
        SELECT device, count(*) AS rounds, max(distance) AS distance, max(norm) AS norm, min(cosine) AS cosine,
            avg(cosine_past) AS cosine_past, max(z) AS z, max(round_id) AS last_round
        FROM anomalies WHERE task = '{task}' GROUP BY device ORDER BY rounds DESC, z DESC, device""",
}


def explain(ask: Ask, task: TaskId, *, version: Version) -> list[Part]:
    """Everything that the history knows of one version. Raises QueryRefused where there is no such version."""
    _require(ask, task, version=version)
    return _answer(ask, _PARTS, task=task, version=version, round=_ROUND.format(task=task, version=version))


def compare(ask: Ask, task: TaskId, *, version: Version, other: Version) -> list[Part]:
    """What is different in two versions of a task. Raises QueryRefused where there is none of that number."""
    _require(ask, task, version=version)
    _require(ask, task, version=other)
    return _answer(ask, _DIFFERENCES, task=task, version=version, other=other)


def list_devices(ask: Ask, task: TaskId) -> list[Part]:
    """Who takes part in a task: by cohort, by device, how its check-ins ended, and who was set apart.

    Raises QueryRefused.
    """
    require_task(ask, task)
    is_compared = ask(f"FROM policies WHERE task = '{task}' AND policy -> 'quarantine' ->> 'window' IS NOT NULL").rows
    return _answer(ask, {**_TAKING_PART, **(_SET_APART if is_compared else {})}, task=task)


def require_task(ask: Ask, task: TaskId) -> None:
    """Raises QueryRefused where the history knows no such task."""
    # What goes into a question is a name, whatever somebody has typed.
    if not _NAME.fullmatch(task):
        raise QueryRefused(f"{task!r} is no name of a task.")
    if not ask(f"FROM tasks WHERE task = '{task}'").rows:
        known = [name for (name,) in ask("SELECT task FROM tasks ORDER BY created_at DESC LIMIT 8").rows]
        there = f" It knows {', '.join(known)}." if known else " It knows none yet."
        raise QueryRefused(f"No task {task!r} is in the history.{there}")


def _answer(ask: Ask, questions: dict[str, str], **names: object) -> list[Part]:
    return [Part(title, ask(question.format(**names))) for title, question in questions.items()]


def _require(ask: Ask, task: TaskId, *, version: Version) -> None:
    # What goes into a question is a name or a number, whatever somebody has typed.
    if not _NAME.fullmatch(task):
        raise QueryRefused(f"{task!r} is no name of a task.")
    if not ask(f"FROM versions WHERE task = '{task}' AND version = {int(version)}").rows:
        require_task(ask, task)
        raise QueryRefused(f"No version {version} of a task {task!r} is in the history.")
