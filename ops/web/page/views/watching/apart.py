"""Who was set apart from the others of a task, and why: for operators each by name, for all others as a number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from urllib.parse import quote, urlencode

import htpy as h
from msgspec import UNSET

from ops.web.page.charts.scales import make_table
from ops.web.page.formats import format_clock, format_number, to_ms
from ops.web.page.layout import Section
from ops.web.page.moment import Moment, Row
from ops.web.page.questions.apart import Counts, count_apart, list_quarantines
from ops.web.page.questions.overview import TaskLine
from ops.web.page.views.parts import draw_device

_FIGURES = ("distance", "norm", "cosine", "cosine_past", "z")
_COLUMNS = ("apart in rounds", "distance", "norm", "cosine", "to its past", "z", "since, UTC", "lift")


def show_apart(moment: Moment, line: TaskLine) -> list[Section]:
    """Of a task whose policy compares its devices: how many stood apart, and who is let in no more."""
    if line.policy.quarantine is UNSET:
        return []
    counts = count_apart(moment, line.task)
    aside = h.span(".note")[f"{format_number(counts.held)} let in no more"]
    body: h.Node = h.p(".note")[_tell(counts)]
    # Whom it names is accused of something, and by figures alone.
    if moment.may_change:
        body = [body, _draw(moment, list_quarantines(moment, task=line.task), name="device")]
    return [Section("apart", "Set apart from the others", body, "wide", aside)]


def show_quarantines(moment: Moment, device: str) -> list[Section]:
    """The quarantines of one device in all tasks, for operators; nothing where there is none."""
    rows = list_quarantines(moment, device=device) if moment.may_change else []
    return [Section("apart", "Quarantines", _draw(moment, rows, name="task"), "wide")] if rows else []


def _tell(counts: Counts) -> str:
    rounds = f"{format_number(counts.rounds)} rounds were compared"
    if not counts.updates:
        return f"{rounds}, and nobody stood apart."
    updates, devices = format_number(counts.updates), format_number(counts.devices)
    many = "device" if counts.devices == 1 else "devices"
    return f"{rounds}; {updates} updates of {devices} {many} stood apart. Devices with rare data do so as well."


def _draw(moment: Moment, rows: Sequence[Row], *, name: str) -> h.Node:
    if not rows:
        return h.p(".empty")["Nobody was quarantined."]
    cells = [
        (
            draw_device(moment, row["device"])
            if name == "device"
            else h.a(href=moment.link_task(row["task"]))[row["task"]],
            ", ".join(format_number(number) for number in json.loads(row["rounds"])),
            *(format_number(row[figure], digits=3) for figure in _FIGURES),
            format_clock(to_ms(row["quarantined_at"])),
            _draw_lift(moment, row),
        )
        for row in rows
    ]
    return make_table([name, *_COLUMNS], cells, caption="quarantines")


def _draw_lift(moment: Moment, row: Row) -> h.Node:
    """When it was lifted; else a link to the page that asks back, which nobody needs in the past."""
    if row["lifted_at"] is not None:
        by = f" by {row['lifted_by']}" if row["lifted_by"] else ""
        return f"lifted {format_clock(to_ms(row['lifted_at']))}{by}"
    if moment.at:
        return ""
    query = urlencode({"device": row["device"]})
    return h.a(".button", href=f"/tasks/{quote(row['task'], safe='')}/lift?{query}")["Lift"]
