"""Privacy: what populations and private tasks have spent, the ledger, and the report to take away."""

from __future__ import annotations

from urllib.parse import quote

import htpy as h

from ops.web.page.charts.gauge import draw_gauge
from ops.web.page.charts.lines import Curve, draw_curve
from ops.web.page.formats import format_share
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment, Row, Rows
from ops.web.page.questions import courses, standing
from ops.web.page.questions.overview import TaskLine, list_tasks
from ops.web.page.views.parts import draw_choice, draw_status
from ops.web.page.views.tables import draw_rows
from ops.web.page.views.task import LOW

GAUGES_MAX = 6


def show_privacy(moment: Moment, *, task: str) -> Page:
    """The budget of each population and private task, or of one task and its population, and the ledger."""
    private = [line for line in list_tasks(moment) if line.budget is not None]
    shown = [line for line in private if task in ("", line.task)]
    charges = standing.list_charges(moment, task=task)
    populations = standing.list_populations(moment, task=task)
    # First what holds over several tasks: a person is in all of them.
    sections = [_show_population(moment, row) for row in populations[:GAUGES_MAX]]
    sections += [_show_gauge(moment, line) for line in shown[:GAUGES_MAX]]
    # The course of one budget beside its gauge; several would not share a scale.
    if len(shown) == 1:
        sections.append(_show_course(charges, shown[0]))
    form = h.form(".filters", method="get", action="/privacy")[
        h.input(type="hidden", name="at", value=moment.at) if moment.at else None,
        draw_choice("task", [line.task for line in private], chosen=task),
        h.button["Show"],
    ]
    table = draw_rows(moment, charges, nothing="Nothing was charged yet.", caption="ledger")
    sections.append(Section("ledger", "Ledger", [form, table], "wide", h.span(".note")["the newest charges first"]))
    return Page(title="Privacy", area="/privacy", sections=sections, task=task)


def _show_population(moment: Moment, row: Row) -> Section:
    name, left = row["population"], 1 - row["rho"] / row["rho_max"]
    facts = [
        ("counts", "the busiest device, over all tasks of the population"),
        ("spent", f"ρ {row['rho']:.4g} of {row['rho_max']:g}"),
        ("that is", f"ε {row['epsilon']:.4g} at δ {row['delta']:g}"),
        ("tasks", [[" ", h.a(href=moment.link_task(task))[task]] for task in row["tasks"]]),
    ]
    body = [
        draw_gauge(left, label=f"{name}: {format_share(left, 1)} left", is_low=left < LOW),
        h.dl(".facts")[([h.dt[label], h.dd[value]] for label, value in facts)],
    ]
    return Section(f"population-{name}", f"population {name}", body, "third", h.span(".note")["one budget for all"])


def _show_gauge(moment: Moment, line: TaskLine) -> Section:
    budget = line.budget
    assert budget is not None
    end = None if line.is_over else courses.forecast_end(moment, line.task, budget=budget, version=line.version)
    facts = [
        ("state", draw_status(line.status)),
        ("spent", f"ρ {budget.rho:.4g} of {budget.rho_max:g}"),
        ("that is", "not charged yet" if budget.epsilon is None else f"ε {budget.epsilon:.4g} at δ {budget.delta:g}"),
        ("ends at this pace", "–" if end is None else f"about version {end}"),
    ]
    body = [
        draw_gauge(budget.left, label=f"{line.task}: {format_share(budget.left, 1)} left", is_low=budget.left < LOW),
        h.dl(".facts")[([h.dt[name], h.dd[value]] for name, value in facts)],
        h.p(".row")[
            # What a participant or an auditor takes away: the API's own answer, and no second way to say it.
            h.a(".button", href=f"/api/v1/tasks/{quote(line.task, safe='')}/privacy", download=f"{line.task}.json")[
                "Download the report"
            ]
        ],
    ]
    title = h.a(href=moment.link_task(line.task))["the task"]
    return Section(f"gauge-{line.task.replace('.', '-')}", line.task, body, "third", title)


def _show_course(charges: Rows, line: TaskLine) -> Section:
    # The first charge first: the ledger is read from its end, a curve from its beginning.
    points = [(row["round_id"], row["epsilon"]) for row in reversed(charges) if row["epsilon"] is not None]
    curve = Curve(name="ε", points=points, name_x="round", color=1, floor=0)
    return Section("course", "ε by round", draw_curve(curve), "two-thirds", h.span(".note")[line.task])
