"""The system: who writes the journals, what waits, how far the history is, and what needs a person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import htpy as h

from ops.history.prospects import UNSUCCESSFUL
from ops.web.page.charts.scales import make_table
from ops.web.page.formats import format_number, format_time
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment, Rows
from ops.web.page.questions import standing
from ops.web.page.questions.overview import TaskLine, list_tasks
from ops.web.page.views.parts import draw_figure, draw_time
from ops.web.page.views.tables import draw_rows
from ops.web.page.views.task import LOW


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that a person should look at: how bad it is, what it is, and where to look or what to do."""

    tone: str
    text: str
    link: str = ""
    remedy: str = ""


def show_system(moment: Moment) -> Page:
    """Everything that is no task."""
    workers, journals = standing.list_workers(moment), standing.list_journals(moment)
    alerts = list(_find_alerts(moment, workers, tasks=list_tasks(moment)))
    # A claim that none has superseded belongs to the worker that writes now.
    holding = [row for row in workers if row["superseded_at"] is None]
    figures = [
        draw_figure("newest record", draw_time(moment.until_ms), note=f"{format_time(moment.until_ms)} UTC"),
        draw_figure("history", format_number(moment.position.sequence), note="batches stored"),
        draw_figure("workers", format_number(len(holding)), note="journals with a writer"),
        draw_figure("events", format_number(sum(row["events"] for row in journals)), note="in the history"),
    ]
    lead = [h.div(".title")[h.h1["System"], _draw_kill() if moment.may_kill else None], h.div(".figures")[figures]]
    sections = [
        Section("lead", "", lead, "wide plain"),
        Section("alerts", "What needs a person", draw_alerts(alerts), "third"),
        _show_lag(moment),
        _show_verified(moment, journals),
        _show_workers(moment, workers),
        _show_digests(moment),
        _show_journals(moment, journals),
    ]
    return Page(title="System", area="/system", sections=sections)


def _show_lag(moment: Moment) -> Section:
    """Whether the broker answers, and what waits: for the history, and for workers."""
    waiting = standing.count_waiting(moment)
    facts: list[tuple[str, h.Node]] = [
        ("updates without a decision", format_number(waiting["updates"])),
        ("rounds without a release", format_number(waiting["rounds"])),
    ]
    # Broker and history are those of now; of the past nobody can ask them.
    if moment.log is not None and not moment.at:
        state = h.span(".pill.bad")["out of reach"] if moment.log.is_away else h.span(".pill.good")["answers"]
        facts = [
            ("broker", state),
            ("offsets that the history has not read", format_number(moment.count_unread())),
            *facts,
        ]
    body = [
        h.dl(".facts.counts")[([h.dt[name], h.dd[value]] for name, value in facts)],
        h.p(".note")["Check-ins are in no history: the workers' metrics count those."],
    ]
    return Section("lag", "Lag", body, "third")


def _show_verified(moment: Moment, journals: Rows) -> Section:
    """Up to where `fedlog verify` has followed the journals, by the note that it left in the folder of the server."""
    note = moment.verified
    if note is None:
        body: h.Node = [
            h.p(".empty")["Nobody has verified the log from the folder of this server yet:"],
            h.pre["fedlog verify"],
        ]
        return Section("verified", "Last verified position", body, "third")
    newest = {(row["topic"], row["partition"]): row["offset"] for row in journals}
    rows = [
        (
            h.span(".id")[f"{one.topic}/{one.partition}"],
            f"@{one.end - 1}" if one.is_whole else h.b["broken"],
            # A marker of a transaction stands behind the last record, so that the end may be past the newest.
            format_number(max(0, newest.get((one.topic, one.partition), 0) + 1 - one.end)),
        )
        for one in note.journals
    ]
    is_good = not note.findings and note.knew_operator
    said = "Every chain is whole." if not note.findings else f"{note.findings} findings: run it again to see them."
    body = [
        h.p(f".verdict.{'good' if is_good else 'bad' if note.findings else 'warn'}")[said],
        None if note.knew_operator else h.p(".note")["Who signed was not checked: the operator's key was not at hand."],
        make_table(["journal", "verified up to", "offsets since"], rows, caption="last verified positions"),
        h.p(".note")["A note of this server's folder, and no proof for others: whoever doubts it runs the command."],
    ]
    return Section("verified", "Last verified position", body, "third", draw_time(note.at_ms))


def _draw_kill() -> h.Element:
    return h.span(".actions")[h.a(".button.danger", href="/system/kill")["Kill the aggregator"]]


def _find_alerts(moment: Moment, workers: Rows, *, tasks: list[TaskLine]) -> Iterator[Alert]:
    # What keeps everything from going on stands above what has happened.
    for concern in moment.concerns:
        yield Alert(concern.tone, concern.what, remedy=concern.remedy)
    for row in workers:
        journal = f"{row['topic']}/{row['partition']}"
        link = moment.link_record(row["topic"], partition=row["partition"], offset=row["offset"])
        # The worst first: our own fault, then a stranger, then what was only late.
        if row["defects"]:
            yield Alert("bad", f"{row['defects']} inputs of {journal} on which our own code failed", link)
        if row["strangers"]:
            yield Alert("warn", f"{row['strangers']} records in {journal} that no writer of it signed", link)
        if row["zombies"]:
            yield Alert("quiet", f"{row['zombies']} late batches of an earlier writer of {journal}, skipped", link)
    for line in tasks:
        reason = line.status.removeprefix("halted: ")
        if reason in UNSUCCESSFUL:
            yield Alert("bad", f"{line.task} halted: {reason.replace('_', ' ')}", moment.link_task(line.task))
        elif line.budget is not None and line.budget.left < LOW and not line.is_over:
            yield Alert("warn", f"{line.task}: its privacy budget is nearly spent", moment.link_task(line.task))


def draw_alerts(alerts: list[Alert]) -> h.Node:
    """The list of what needs a person."""
    if not alerts:
        return h.p(".verdict.good")["Nothing."]
    return h.ul(".alerts", role="list")[(h.li[_draw_alert(alert)] for alert in alerts)]


def _draw_alert(alert: Alert) -> list[h.Node]:
    text = h.a(href=alert.link)[alert.text] if alert.link else h.b[alert.text]
    remedy = h.p(".note")["Do: ", alert.remedy] if alert.remedy else None
    return [h.span(f".pill.{alert.tone}")[alert.tone], " ", text, remedy]


def _show_workers(moment: Moment, workers: Rows) -> Section:
    table = draw_rows(moment, workers, nothing="No worker has claimed a journal yet.", caption="workers")
    aside = h.span(".note")["each claim fences the writer before it"]
    return Section("workers", "Claims of journals", table, "wide", aside)


def _show_digests(moment: Moment) -> Section:
    digests = standing.list_digests(moment)
    nothing = "No actor has recorded a digest of its state yet: one is due every 10 000 decisions."
    table = draw_rows(moment, digests, nothing=nothing, caption="state digests")
    return Section("digests", "States recorded, which a replay must reach", table, "half")


def _show_journals(moment: Moment, journals: Rows) -> Section:
    table = draw_rows(moment, journals, nothing="The history is empty.", caption="topics")
    return Section("journals", "How far the history is, by partition", table, "half")
