"""All tasks: status, version, headline metric, buffer, privacy left, devices at work, last event."""

from __future__ import annotations

import htpy as h

from ops.web.page.charts.lines import draw_sparkline
from ops.web.page.formats import format_number, format_share
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment
from ops.web.page.questions.overview import TaskLine, list_tasks
from ops.web.page.views.parts import draw_meter, draw_status, draw_time

COLUMNS = ("Task", "Status", "Version", "Metric", "Buffer", "Privacy left", "At work", "Last event")


def show_tasks(moment: Moment) -> Page:
    """Every task as a line."""
    tasks = list_tasks(moment)
    body = _draw_lines(moment, tasks) if tasks else _draw_nothing()
    going = sum(not task.is_over for task in tasks)
    aside = h.span(".note")[f"{going} of {len(tasks)} going on"] if tasks else None
    return Page(title="Tasks", area="/tasks", sections=[Section("tasks", "Tasks", body, "wide list", aside)])


def _draw_lines(moment: Moment, tasks: list[TaskLine]) -> h.Node:
    # A list of cards on a phone, a table elsewhere: the same elements, so that a reader hears one table.
    return h.table(".tasks")[
        h.thead[h.tr[(h.th(scope="col")[name] for name in COLUMNS)]],
        h.tbody[(_draw_line(moment, task) for task in tasks)],
    ]


def _draw_line(moment: Moment, task: TaskLine) -> h.Element:
    cells = (
        draw_status(task.status),
        [format_number(task.version), h.small[f" of {format_number(task.versions_max)}"]],
        _draw_metric(task),
        _draw_buffer(task),
        _draw_budget(task),
        format_number(task.at_work),
        [draw_time(task.last_ms), h.small[task.last_event]],
    )
    return h.tr(class_={"over": task.is_over})[
        h.th(scope="row")[
            h.a(href=moment.link_task(task.task))[task.task],
            h.small[f"from {task.parent}" if task.parent else ("question" if task.kind == "measure" else "")],
        ],
        (h.td(data_name=name)[h.div[cell]] for name, cell in zip(COLUMNS[1:], cells, strict=True)),
    ]


def _draw_metric(task: TaskLine) -> h.Node:
    if not task.scores:
        return h.span(".quiet")["not scored yet"]
    version, value = task.scores[-1]
    label = f"{task.metric}: {format_number(value)} at version {version}"
    return [
        draw_sparkline([score for _, score in task.scores], label=label),
        h.span[h.b[format_number(value, digits=3)], h.small[task.metric]],
    ]


def _draw_buffer(task: TaskLine) -> h.Node:
    # What is left in the buffer of a task that is over is in no version.
    if task.filled is None or task.is_over:
        return h.span(".quiet")["–"]
    text = f"{task.filled} of {task.size}"
    return [draw_meter(task.filled, task.size, label=f"buffer {text}"), h.small[text]]


def _draw_budget(task: TaskLine) -> h.Node:
    if task.budget is None:
        return h.span(".quiet")["not private"]
    share = format_share(task.budget.left, 1)
    tone = "low" if task.budget.left < 0.15 else ""
    return [
        draw_meter(task.budget.left, 1, label=f"privacy left {share}", tone=tone),
        h.small[share, f", ε {task.budget.epsilon:.3g}" if task.budget.epsilon is not None else None],
    ]


def _draw_nothing() -> h.Element:
    return h.div(".empty")[
        h.p["No task yet."],
        h.p["Create one with ", h.code["fedlog run policy.toml"], ", or watch ", h.code["fedlog demo"], "."],
    ]
