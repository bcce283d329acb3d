"""Devices: who takes part, how often and how stale; and one device with its leases and updates."""

from __future__ import annotations

import htpy as h

from ops.web.page.charts.bars import Bar, draw_shares, name_color
from ops.web.page.formats import format_number, format_share, shorten
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment
from ops.web.page.questions import releasing, running, standing
from ops.web.page.questions.overview import list_tasks
from ops.web.page.views.parts import draw_choice, draw_figure
from ops.web.page.views.tables import draw_rows
from ops.web.page.views.watching.apart import show_quarantines

EVERY = "*"


def show_devices(moment: Moment, *, task: str, cohort: str = EVERY) -> Page:
    """The devices that were granted a lease last, of a task and a cohort or of all."""
    rows = standing.list_devices(moment, task=task, cohort=cohort)
    count = standing.count_devices(moment, task=task)
    tasks = [line.task for line in list_tasks(moment)]
    form = h.form(".filters", method="get", action="/devices")[
        h.input(type="hidden", name="at", value=moment.at) if moment.at else None,
        draw_choice("task", tasks, chosen=task),
        h.label["cohort", h.input(name="cohort", value="" if cohort == EVERY else cohort, size=14, maxlength=64)],
        h.button["Show"],
    ]
    table = draw_rows(moment, rows, nothing="No device was granted a lease yet.", caption="devices")
    aside = h.span(".note")[f"{format_number(len(rows))} shown; {format_number(count)} were ever granted a lease"]
    sections = [*_show_cohorts(moment, tasks, task=task), Section("devices", "Devices", [form, table], "wide", aside)]
    return Page(title="Devices", area="/devices", sections=sections, task=task)


def _show_cohorts(moment: Moment, tasks: list[str], *, task: str) -> list[Section]:
    """Of each task what its cohorts gave; they are small beside a list of devices, and say more."""
    # A card a task, because cohorts of two tasks cannot be compared.
    sections: list[Section] = []
    for name in [task] if task else tasks[:6]:
        cohorts = running.list_cohorts(moment, name)
        total = sum(row["admitted"] for row in cohorts)
        bars = [
            Bar(
                name=row["cohort"] or "no cohort",
                value=row["admitted"],
                note=f"{format_number(row['devices'])} devices · {format_share(row['admitted'], total)}",
                tone=name_color(number),
                link=moment.link("/devices", {"task": name, "cohort": row["cohort"]}),
            )
            for number, row in enumerate(cohorts)
        ]
        body = [draw_shares(bars, nothing="No device has taken part yet."), _tell_running(moment, name)]
        sections.append(Section(f"cohorts-{len(sections)}", name, body, "third", h.span(".note")["updates by cohort"]))
    return sections


def _tell_running(moment: Moment, task: str) -> h.Node:
    """What its devices say that they run; nothing where none has said."""
    rows = releasing.list_running(moment, task)
    return h.p(".note")["In production, as they say: ", releasing.tell_running(rows)] if rows else None


def show_device(moment: Moment, device: str) -> Page | None:
    """One device in all its tasks; None where no lease was ever granted to it."""
    tasks = standing.read_device(moment, device)
    if not tasks:
        return None
    # Over all tasks: a device has one key, whatever it trains.
    totals = {name: sum(row[name] for row in tasks) for name in ("leases", "admitted", "refused", "expired")}
    lead = [
        h.div(".title")[h.h1["Device ", h.span(".id", title=device)[shorten(device)]]],
        h.div(".figures")[(draw_figure(name, format_number(total)) for name, total in totals.items())],
        # Its name is a digest of its key: it proves itself, and says nothing of its owner.
        h.p(".note")[h.span(".id")[device]],
    ]
    by_task = draw_rows(moment, [_leave_out(row) for row in tasks], nothing="", caption="by task")
    updates = draw_rows(
        moment, standing.list_updates(moment, device), nothing="None of its updates was admitted.", caption="updates"
    )
    leases = draw_rows(moment, standing.list_leases(moment, device), nothing="It holds none.", caption="leases")
    events = h.a(href=moment.link("/events", {"device": device}))["all its events"]
    sections = [
        Section("lead", "", lead, "wide plain"),
        Section("tasks", "By task", by_task, "wide", events),
        *show_quarantines(moment, device),
        Section("updates", "Newest updates", updates, "wide"),
        Section("leases", "Newest leases", leases, "wide"),
    ]
    return Page(title=f"Device {shorten(device)}", area="/devices", sections=sections)


def _leave_out(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "device"}
