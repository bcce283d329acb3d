"""Events by task, device, kind and reason; a record with its events, what caused them, and what they caused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import htpy as h

from ops.audit.journal_states import Changed
from ops.history.records import format_value
from ops.web.page.charts.scales import make_table
from ops.web.page.formats import format_clock, format_time
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment
from ops.web.page.questions.happened import (
    PAGE_ROWS,
    Filter,
    Happened,
    list_caused,
    list_events,
    list_kinds,
    read_record,
)
from ops.web.page.questions.overview import list_tasks
from ops.web.page.views.parts import draw_choice, draw_device, draw_figure, draw_time

# What stands in columns of its own, or is only a digest that nobody reads.
_HEX = re.compile(r"[0-9a-f]{32,}")
LEFT_OUT = {"task", "policy", "tensors", "weights", "sources", "public_key", "sent_ms", "deadline_ms", "salt"}
# Fields in groups, of which a line would hold nothing else.
GROUPS = ("body_", "mechanism_", "model_topic", "model_partition", "model_offsets", "model_codec")


def show_events(moment: Moment, asked: Filter) -> Page:
    """The newest events that the filter lets through."""
    events = list_events(moment, asked)
    shown, more = events[:PAGE_ROWS], len(events) > PAGE_ROWS
    query = {name: getattr(asked, name) for name in ("task", "device", "kind", "reason")}
    # Pages by key: new events meanwhile shift nothing.
    older = moment.link("/events", {**query, "before": shown[-1].key}) if more else ""
    body = [
        _draw_filters(moment, asked),
        _draw_events(moment, shown) if shown else h.p(".empty")["No such event at this moment."],
        h.p(".row")[h.a(".button", href=older)["Older"]] if older else None,
    ]
    return Page(title="Events", area="/events", sections=[Section("events", "Events", body, "wide")])


def show_record(moment: Moment, topic: str, *, partition: int, offset: int) -> Page:
    """One record: what it says, what it was decided on, what was decided on it, and what it changed."""
    # Three questions: what it says, what it was decided on, and what was decided on it.
    events = read_record(moment, topic, partition=partition, offset=offset)
    caused = list_caused(moment, topic, partition=partition, offset=offset)
    place = f"{topic}/{partition}@{offset}"
    sections = [_show_lead(moment, place, events=events), *[_show_event(moment, event) for event in events]]
    if not events:
        text = "No event of the history stands in this record: it is a check-in, a body or a record that nobody signed."
        sections.append(Section("what", "What it is", h.p(".empty")[text], "wide"))
    # Who may not see the operator's secrets may not see them in a state either.
    evidence = moment.evidence if events else None
    changed = None if evidence is None else evidence.compare_states(topic, partition=partition, offset=offset)
    sections.append(_show_states(changed))
    table = _draw_events(moment, caused) if caused else h.p(".empty")["Nothing was decided on it as an input."]
    sections.append(Section("caused", "What it caused", table, "wide"))
    return Page(title=place, area="/events", sections=sections, task=events[0].task or "" if events else "")


def _draw_filters(moment: Moment, asked: Filter) -> h.Element:
    tasks = [line.task for line in list_tasks(moment)]
    return h.form(".filters", method="get", action="/events")[
        h.input(type="hidden", name="at", value=moment.at) if moment.at else None,
        draw_choice("task", tasks, chosen=asked.task),
        draw_choice("kind", list_kinds(), chosen=asked.kind),
        h.label["device", h.input(name="device", value=asked.device, size=14, maxlength=64)],
        h.label["reason", h.input(name="reason", value=asked.reason, size=14, maxlength=64)],
        h.button["Show"],
    ]


def _draw_events(moment: Moment, events: Sequence[Happened]) -> h.Element:
    rows = [
        (
            h.span(title=format_time(event.at_ms))[format_clock(event.at_ms)],
            h.b[event.kind],
            h.a(href=moment.link_task(event.task))[event.task] if event.task else "–",
            h.span(".told")[_summarize(event)],
            h.a(".id", href=_link(moment, event))[f"{event.topic}/{event.partition}@{event.offset}"],
        )
        for event in events
    ]
    return make_table(["appended, UTC", "event", "task", "what it says", "record"], rows, caption="events")


def _summarize(event: Happened) -> str:
    # A line is for finding the event; its own page has every field.
    text = format_value(
        {
            name: value
            for name, value in event.values.items()
            if name not in LEFT_OUT and not name.startswith(GROUPS) and value not in ("", [], {})
        }
    )
    return text if len(text) <= 160 else text[:159] + "…"


def _link(moment: Moment, event: Happened) -> str:
    return moment.link_record(event.topic, partition=event.partition, offset=event.offset)


def _show_lead(moment: Moment, place: str, *, events: Sequence[Happened]) -> Section:
    first = events[0] if events else None
    figures = []
    if first is not None:
        figures = [
            draw_figure("appended", draw_time(first.at_ms), note=f"{format_time(first.at_ms)} UTC"),
            draw_figure("events", str(len(events)), note="in this record"),
            draw_figure("decided on", _draw_cause(moment, first), note="the input that caused them"),
        ]
    body = [h.div(".title")[h.h1[place]], h.div(".figures")[figures]]
    return Section("lead", "", body, "wide plain")


def _draw_cause(moment: Moment, event: Happened) -> h.Node:
    if event.input_topic is None or event.input_offset is None:
        return h.span(".quiet")["a word of its own"]
    # A release that was stored, a body that was measured: the host hands it in, and it stands in no topic.
    if not event.input_topic:
        return h.span(".quiet")["a fact of the host"]
    link = moment.link_record(event.input_topic, partition=event.partition, offset=event.input_offset)
    return h.a(".id", href=link)[f"{event.input_topic}@{event.input_offset}"]


def _show_event(moment: Moment, event: Happened) -> Section:
    # In the order of the event itself, as whoever reads its code expects.
    fields = [(name, _draw_field(moment, name=name, value=value)) for name, value in event.values.items()]
    body = h.dl(".facts")[([h.dt[name.replace("_", " ")], h.dd[value]] for name, value in fields)]
    return Section(f"event-{event.number}", event.kind, body, "half", _draw_cause(moment, event))


def _draw_field(moment: Moment, *, name: str, value: Any) -> h.Node:
    if name == "device":
        return draw_device(moment, value)
    if name == "task":
        return h.a(href=moment.link_task(value))[value]
    if isinstance(value, dict | list):
        return h.span(".id")[format_value(value)]
    if name.endswith("_ms"):
        return f"{format_time(value)} UTC"
    return str(value)


def _show_states(changed: Sequence[Changed] | None) -> Section:
    """What the state of the actor was before and after the record: the fold of its journal up to there."""
    if changed is None:
        body: h.Node = h.p(".empty")["Only records of a journal change a state, and only where the log is at hand."]
    elif not changed:
        body = h.p(".empty")["The state is the same before and after it."]
    else:
        rows = [
            # Ids in a path are as long as the path; their first digits tell them apart.
            (h.code(title=one.path)[_HEX.sub(lambda found: found[0][:8] + "…", one.path)], one.before, one.after)
            for one in changed
        ]
        body = make_table(["part of the state", "before", "after"], rows, caption="what the record changed")
    return Section("states", "The actor's state before and after", body, "wide")
