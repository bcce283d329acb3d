"""Rounds and updates as spans: one trace a round, one an update, derived from append times of the log.

Ids are digests of what a span is about. So whoever exports twice, or from two places, exports the same spans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.history.tables.answers import Answer
from ops.logging_setup import name_trace

Answers = Callable[..., Answer]
Row = Mapping[str, Any]
Value = str | int | float | bool

_ROUNDS = """
    WITH scored AS (
        SELECT task, version, min(at_ms) AS at_ms FROM facts.version_evaluated WHERE cohort = '' GROUP BY task, version
    ), filled AS (SELECT task, round, max(at_ms) AS at_ms FROM facts.update_admitted GROUP BY task, round),
    promoted AS (SELECT task, version, min(at_ms) AS at_ms FROM facts.promoted GROUP BY task, version)
    SELECT opened.task AS task, opened.round AS round, opened.at_ms AS opened_ms, proposed.at_ms AS proposed_ms,
        proposed.members AS members, charged.at_ms AS charged_ms, charged.epsilon AS epsilon,
        published.at_ms AS published_ms, published.version AS version, abandoned.at_ms AS abandoned_ms,
        abandoned.reason AS reason, scored.at_ms AS scored_ms, filled.at_ms AS filled_ms, promoted.at_ms AS promoted_ms
    FROM facts.round_opened AS opened
    LEFT JOIN facts.round_proposed AS proposed USING (task, round)
    LEFT JOIN facts.round_charged AS charged USING (task, round)
    LEFT JOIN facts.model_published AS published USING (task, round)
    LEFT JOIN facts.round_abandoned AS abandoned USING (task, round)
    LEFT JOIN scored ON scored.task = opened.task AND scored.version = published.version
    LEFT JOIN filled ON filled.task = opened.task AND filled.round = opened.round
    LEFT JOIN promoted ON promoted.task = opened.task AND promoted.version = published.version
    WHERE ($task = '' OR opened.task = $task) AND ($round < 0 OR opened.round = $round)
        AND greatest(published.at_ms, abandoned.at_ms, scored.at_ms, promoted.at_ms) >= $since_ms
    ORDER BY opened.at_ms, opened.task, opened.round"""
_UPDATES = """
    WITH ended AS (
        FROM facts.lease_closed
        QUALIFY row_number() OVER (PARTITION BY lease ORDER BY at_offset DESC, at_number DESC) = 1
    ), sent AS (SELECT lease, min(at_ms) AS at_ms FROM facts.submission GROUP BY lease)
    SELECT granted.task AS task, granted.lease AS lease, granted.device AS device, granted.version AS base_version,
        granted.log_ms AS checked_in_ms, granted.at_ms AS leased_ms, sent.at_ms AS sent_ms,
        admitted.at_ms AS admitted_ms, admitted.round AS round, admitted.staleness AS staleness,
        refused.at_ms AS refused_ms, refused.reason AS refused, ended.at_ms AS ended_ms, ended.outcome AS outcome
    FROM facts.lease_granted AS granted
    LEFT JOIN ended ON ended.lease = granted.lease
    LEFT JOIN sent ON sent.lease = granted.lease
    LEFT JOIN facts.update_admitted AS admitted ON admitted."update" = granted.lease
    LEFT JOIN facts.update_refused AS refused ON refused."update" = granted.lease
    WHERE ($task = '' OR granted.task = $task) AND ($round < 0 OR admitted.round = $round)
        AND greatest(admitted.at_ms, refused.at_ms, ended.at_ms) >= $since_ms
    ORDER BY granted.at_ms, granted.lease"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A step with its beginning and end in Unix milliseconds; ids are hexadecimal, `parent` empty for the whole trace.

    `links` names other traces by their id and that of their first span; `error` says why it came to nothing.
    """

    trace: str
    id: str
    parent: str = ""
    name: str
    start_ms: int
    end_ms: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()
    error: str = ""


def list_spans(answers: Answers, *, task: str = "", number: int = -1, since_ms: int = 0) -> Iterator[Span]:
    """The spans of rounds and updates that ended at `since_ms` or later, of all tasks or one, all rounds or one."""
    asked = {"task": task, "round": number, "since_ms": since_ms}
    rounds = {(row["task"], row["round"]): row for row in _ask(answers, _ROUNDS, asked=asked)}
    for row in rounds.values():
        yield from make_round(row)
    for row in _ask(answers, _UPDATES, asked=asked):
        yield from make_update(row)


def make_round(row: Row) -> Iterator[Span]:
    """The trace of a round that is over: filled, proposed, charged, published, evaluated, promoted."""
    trace, root = _name_round(row)
    end_ms = row["published_ms"] or row["abandoned_ms"]
    about = {"fedlog.task": row["task"], "fedlog.round": row["round"]}
    more = {"fedlog.members": row["members"], "fedlog.version": row["version"], "fedlog.epsilon": row["epsilon"]}
    known = {name: value for name, value in more.items() if value is not None}
    # What comes after the release belongs to the trace, and the round is over without it.
    yield Span(
        trace=trace,
        id=root,
        name="round",
        start_ms=row["opened_ms"],
        end_ms=end_ms,
        attributes={**about, **known},
        error=row["reason"] or "",
    )
    steps = [
        ("fill", row["opened_ms"], row["filled_ms"] or row["proposed_ms"] or end_ms),
        # Mostly with the last admission; a round that waits for its time is proposed later.
        ("propose", row["filled_ms"], row["proposed_ms"]),
        ("charge", row["proposed_ms"], row["charged_ms"]),
        ("publish", row["charged_ms"] or row["proposed_ms"], row["published_ms"]),
        ("evaluate", row["published_ms"], row["scored_ms"]),
        ("promote", row["scored_ms"] or row["published_ms"], row["promoted_ms"]),
    ]
    yield from _make_steps(trace, root, steps=steps, about=about)


def make_update(row: Row) -> Iterator[Span]:
    """The trace of a lease that is over: granted, trained, decided; linked to the round that took its update."""
    trace, root = name_trace("update", row["lease"])
    decided_ms = row["admitted_ms"] or row["refused_ms"]
    end_ms = decided_ms or row["ended_ms"]
    about = {"fedlog.task": row["task"], "fedlog.update": row["lease"], "fedlog.device": row["device"]}
    known = {"fedlog.base_version": row["base_version"]}
    if row["admitted_ms"] is not None:
        known |= {"fedlog.round": row["round"], "fedlog.staleness": row["staleness"]}
    yield Span(
        trace=trace,
        id=root,
        name="update",
        start_ms=min(row["checked_in_ms"], row["leased_ms"]),
        end_ms=end_ms,
        attributes={**about, **known},
        links=() if row["admitted_ms"] is None else (_name_round(row),),
        error="" if row["admitted_ms"] is not None else row["refused"] or row["outcome"] or "",
    )
    steps = [
        ("lease", row["checked_in_ms"], row["leased_ms"]),
        # Download, training and upload: only the device could tell them apart.
        ("train", row["leased_ms"], row["sent_ms"] or end_ms),
        ("admit", row["sent_ms"], decided_ms),
    ]
    yield from _make_steps(trace, root, steps=steps, about=about)


def _make_steps(
    trace: str, parent: str, *, steps: list[tuple[str, int | None, int | None]], about: Mapping[str, Value]
) -> Iterator[Span]:
    for name, start_ms, end_ms in steps:
        if start_ms is None or end_ms is None:
            continue
        yield Span(
            trace=trace,
            id=_digest(f"{parent}/{name}")[:16],
            parent=parent,
            name=name,
            start_ms=start_ms,
            # Append times of two partitions may cross by what clocks of two brokers differ, and no span may end first.
            end_ms=max(start_ms, end_ms),
            attributes=about,
        )


def _ask(answers: Answers, sql: str, *, asked: Mapping[str, object]) -> list[Row]:
    found = answers(sql, parameters=asked)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def _name_round(row: Row) -> tuple[str, str]:
    return name_trace("round", f"{row['task']}/{row['round']}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
