"""A version: who is in it and how much each counts, what was refused meanwhile, what it cost, and how it does."""

from __future__ import annotations

import json
from collections import Counter

import htpy as h

from ops.history.tables.answers import Answer, QueryRefused
from ops.history.tables.explaining import Part, compare, explain
from ops.web.page.charts.bars import Bar, draw_shares
from ops.web.page.charts.timeline import draw_timeline
from ops.web.page.formats import format_number, shorten, to_ms
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment, Row
from ops.web.page.questions import running
from ops.web.page.views.parts import draw_figure, draw_time, make_trips
from ops.web.page.views.tables import draw_rows

NOTHING = {
    "members": "No update is in it: it is the operator's own model.",
    "refused meanwhile": "No update was refused while its round filled.",
    "declined meanwhile": "No check-in was declined while its round filled.",
    "ledger": "Nothing was charged: the task is not private, or the version is of no round.",
    "scores": "It was not evaluated.",
    "evaluation by cohort": "No evaluator has said anything.",
    "decided by": "No round decided it.",
}
TITLES = {
    "members": "Who is in it",
    "refused meanwhile": "Refused meanwhile",
    "declined meanwhile": "Declined meanwhile",
    "ledger": "What it cost",
    "scores": "How it does",
    "evaluation by cohort": "What each evaluator says",
    "decided by": "The records that decided it",
}


def show_version(moment: Moment, task: str, *, version: int, other: int | None = None) -> Page | None:
    """Everything of one version, or how it differs from another; None where there is none of that number."""

    def ask(sql: str) -> Answer:
        return moment.reader.ask(sql, as_of=moment.as_of)

    try:
        parts = explain(ask, task, version=version)
        different = [] if other is None else compare(ask, task, version=version, other=other)
    except QueryRefused:
        return None
    found = {part.title: part.to_json() for part in parts}
    about = found["version"][0]
    sections = [
        _show_lead(moment, task, about=about, members=found["members"]),
        *[_show_difference(moment, task, part=part) for part in different],
        _show_check(moment, task, version=version),
        _show_part(moment, task, title="ledger", rows=found["ledger"]),
        _show_part(moment, task, title="members", rows=found["members"]),
        *_show_timeline(moment, task, about=about),
        _show_part(moment, task, title="scores", rows=[*map(_join_voices, found["scores"])]),
        _show_part(moment, task, title="evaluation by cohort", rows=found["evaluation by cohort"]),
        _show_part(moment, task, title="decided by", rows=found["decided by"]),
        _show_part(moment, task, title="refused meanwhile", rows=found["refused meanwhile"]),
        _show_declined(found["declined meanwhile"]),
    ]
    return Page(title=f"{task}, version {version}", area="/tasks", sections=sections, task=task)


def _show_lead(moment: Moment, task: str, *, about: Row, members: list[Row]) -> Section:
    version = about["version"]
    # To its neighbours, because versions are read one after the other.
    around = [
        h.a(".button", href=moment.link_version(task, number))[f"version {number}"]
        for number in (version - 1, version + 1)
        if number >= 0
    ]
    # Weights are what an update counts for, so that their sum is the size of the round.
    weight = sum(row["weight"] or 0 for row in members)
    figures = [
        draw_figure("updates", format_number(about["client_count"]), note=f"weight {weight:.4g} in all"),
        draw_figure("devices", format_number(len({row["device"] for row in members}))),
        draw_figure("published", draw_time(to_ms(about["published_at"])), note="append time"),
        draw_figure("model", h.span(".id", title=about["sha256"])[shorten(about["sha256"])], note="sha256 of its body"),
    ]
    fork = h.a(".button", href=f"/tasks/{task}/fork?version={version}")["Fork from here"] if moment.may_fork else None
    return Section(
        "lead",
        "",
        [
            h.div(".title")[
                h.h1[h.a(href=moment.link_task(task))[task], f", version {version}"],
                h.span(".actions")[around, fork],
            ],
            h.div(".figures")[figures],
        ],
        "wide plain",
    )


def _show_check(moment: Moment, task: str, *, version: int) -> Section:
    """A button that recomputes the version now, for whoever may have the server work."""
    if not moment.may_change:
        text = "Sum and model follow from the bodies of the updates. Anybody who reads the log can recompute them:"
        return Section("check", "Is it true?", [h.p[text], h.pre["fedlog replay --full"]], "half")
    address = f"/tasks/{task}/versions/{version}/recompute"
    text = (
        "Sum and model follow from the bodies of the updates, bit for bit. Do not believe what is published: "
        "have it recomputed from the log, and compared."
    )
    exchanged = {"hx-get": address, "hx-target": "#recomputed", "hx-indicator": "#recompute"}
    body = [
        h.p[text],
        h.p(".row")[h.a("#recompute.button.strong", exchanged, href=address)["Recompute now"]],
        # What was found stays until somebody asks again, whatever else is new on the page.
        h.div("#recomputed", {"hx-morph-skip": True}, role="status", aria_live="polite"),
    ]
    return Section("check", "Is it true?", body, "half")


def _show_part(moment: Moment, task: str, *, title: str, rows: list[Row]) -> Section:
    kind = "wide" if title == "members" else "half"
    # A part without rows is an answer too: nobody was refused.
    table = draw_rows(moment, rows, task=task, nothing=NOTHING.get(title, "Nothing."), caption=TITLES.get(title, title))
    aside = h.span(".note")[f"{format_number(len(rows))} in all"] if len(rows) > 1 else None
    return Section(title.replace(" ", "-"), TITLES.get(title, title), table, kind, aside)


def _join_voices(row: Row) -> Row:
    """How many have spoken out of how many, as one column: half a page has no room for two."""
    joined = {"voices": f"{row['voices']} of {row['quorum']}", "quorum": None}
    return row if row["quorum"] is None else {**row, **joined}


def _show_declined(rows: list[Row]) -> Section:
    """How often which reason; one line a decision would be longer than the version's members."""
    counted: Counter[str] = Counter()
    for row in rows:
        counted.update(json.loads(row["counts"]))
    bars = [Bar(name=reason.replace("_", " "), value=count, tone="quiet") for reason, count in counted.most_common()]
    title = "declined meanwhile"
    return Section("declined-meanwhile", TITLES[title], draw_shares(bars, nothing=NOTHING[title]), "half")


def _show_difference(moment: Moment, task: str, *, part: Part) -> Section:
    table = draw_rows(moment, part.to_json(), task=task, nothing="Nothing differs.", caption=part.title)
    return Section(f"diff-{part.title.replace(' ', '-')}", f"Difference: {part.title}", table, "wide")


def _show_timeline(moment: Moment, task: str, *, about: Row) -> list[Section]:
    if about["round_id"] is None:
        return []
    shown = running.find_round(moment, task, number=about["round_id"])
    if shown is None:
        return []
    label = f"what happened in round {shown.number}"
    chart = draw_timeline(
        make_trips(moment, shown.members, staleness_max=running.find_staleness_max(moment, task)),
        shown.steps,
        label=label,
    )
    return [Section("timeline", "From check-in to release", chart, "wide")]
