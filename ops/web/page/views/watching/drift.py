"""How far the answers of a measure task have moved: what stands beyond its bound, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import htpy as h
from msgspec import UNSET

from ops.web.page.charts.scales import draw_table, make_table
from ops.web.page.formats import format_clock, format_number
from ops.web.page.layout import Section
from ops.web.page.moment import Moment, Row
from ops.web.page.questions.drift import list_standing, list_words
from ops.web.page.questions.overview import TaskLine
from schemas.policy import Drift

_MEASURES = {"psi": "PSI", "ks": "KS"}
_COLUMNS = ("cohort", "moved from", "by", "distance", "in bounds", "bound", "by chance", "since version", "newest, UTC")
_WORDS = ("version", "it", "cohort", "moved from", "by", "distance", "bound", "by chance", "record")


def show_drift(moment: Moment, line: TaskLine) -> list[Section]:
    """Of a task whose policy compares its answers: what it compares, what stands, and all that was said of it."""
    asked = line.policy.drift
    if asked is UNSET:
        return []
    standing, words = list_standing(moment, line.task), list_words(moment, line.task)
    told = _tell_rules(asked)
    if line.is_over and standing:
        # Nobody can say that it is over: for that somebody would have to answer.
        told += " The task is over, and nobody answers any more: this is as its last version left it."
    body: list[h.Node] = [h.p(".note")[told], _draw_standing(moment, line, rows=standing)]
    if words:
        rows = (_draw_word(moment, line, row=row) for row in words)
        body.append(draw_table(_WORDS, rows, summary="what was said of it", of="the newest crossings and ends"))
    aside = h.span(".note")["within its bounds" if not standing else f"{len(standing)} beyond their bounds"]
    return [Section("drift", "How far answers have moved", body, "wide", aside)]


def tell_standing(rows: Iterable[Row]) -> str:
    """What holds a rollout back, on one line."""
    return "; ".join(
        f"{row['kind']} of {row['task']} by {_MEASURES[row['measure']]} {format_number(row['value'], digits=3)}"
        f"{' in ' + row['cohort'] if row['cohort'] else ''}, since version {row['since']}"
        for row in rows
    )


def _tell_rules(asked: Drift) -> str:
    of = f" of {asked.of}" if asked.of else ""
    version = f"version {asked.version}{of}" if asked.version > 0 else f"the newest version{of} of that time"
    bounds = [(asked.psi_max, "PSI"), (asked.ks_max, "KS"), (asked.skew_psi_max, "PSI"), (asked.skew_ks_max, "KS")]
    told = [f"{name} {bound:g}" for bound, name in bounds[:2] if bound is not UNSET]
    apart = [f"{name} {bound:g}" for bound, name in bounds[2:] if bound is not UNSET]
    cohorts = f" Between a cohort and all others: {' and '.join(apart)}." if apart else ""
    return f"{asked.statistic.capitalize()}, beside {version}: from {' or '.join(told)} on it has moved.{cohorts}"


def _draw_standing(moment: Moment, line: TaskLine, *, rows: Sequence[Row]) -> h.Node:
    if not rows:
        return h.p(".empty")["Nothing has moved beyond its bound."]
    cells = [
        (
            *_draw_place(moment, line, row=row),
            format_number(row["value"], digits=3),
            f"{row['value'] / row['bound']:.1f} ×" if row["bound"] else "–",
            format_number(row["bound"], digits=3),
            format_number(row["by_chance"], digits=3),
            h.a(href=moment.link_version(line.task, row["since"]))[format_number(row["since"])],
            format_clock(row["at_ms"]),
        )
        for row in rows
    ]
    return make_table(_COLUMNS, cells, caption="what has moved")


def _draw_place(moment: Moment, line: TaskLine, *, row: Row) -> tuple[h.Node, h.Node, h.Node]:
    """Whose it is, from what it moved, and by which measure it is told."""
    other = f"version {row['reference_version']}"
    if row["kind"] == "skew":
        source: h.Node = "all other cohorts"
    elif row["reference"] == line.task:
        source = h.a(href=moment.link_version(line.task, row["reference_version"]))[other]
    else:
        source = f"{other} of {row['reference']}"
    return row["cohort"] or h.em["all"], source, _MEASURES[row["measure"]]


def _draw_word(moment: Moment, line: TaskLine, *, row: Row) -> Sequence[h.Node]:
    link = moment.link_record("rounds", partition=row["at_partition"], offset=row["at_offset"])
    return (
        h.a(href=moment.link_version(line.task, row["version"]))[format_number(row["version"])],
        {"found": "has moved", "ended": "is back"}[row["step"]],
        *_draw_place(moment, line, row=row),
        *(format_number(row[name], digits=3) for name in ("value", "bound", "by_chance")),
        h.a(".id", href=link)[f"rounds/{row['at_partition']}@{row['at_offset']}"],
    )
