"""What several views show alike: states, figures, times, ids."""

from __future__ import annotations

from collections.abc import Sequence

import htpy as h

from ops.history.prospects import UNSUCCESSFUL
from ops.web.page.charts.buffer import find_step
from ops.web.page.charts.timeline import Trip
from ops.web.page.formats import format_moment, format_time, shorten
from ops.web.page.layout import Page, Section
from ops.web.page.moment import Moment, Row
from ops.web.page.questions.running import TRIPS_MAX

TONES = {"running": "good", "paused": "warn", "closing": "warn", "created": "quiet"}


def draw_status(status: str) -> h.Element:
    """The state of a task as a word in its colour."""
    name, _, reason = status.partition(": ")
    # A task that has ended well and one that could not go on are both halted.
    tone = TONES.get(name, "bad" if reason in UNSUCCESSFUL else "done")
    return h.span(f".pill.{tone}")[name, f": {reason.replace('_', ' ')}" if reason else None]


def draw_figure(name: str, value: h.Node, *, note: h.Node = None, link: str = "") -> h.Element:
    """A number with its name, and what it must be read with."""
    return h.div(".figure")[
        h.span(".name")[h.a(href=link)[name] if link else name],
        h.span(".value")[value],
        h.span(".note")[note] if note else None,
    ]


def draw_time(time_ms: int | None) -> h.Element:
    """A time; with script also how long ago, which says more while one watches."""
    if time_ms is None:
        return h.span["–"]
    return h.time(".when", datetime=f"{format_moment(time_ms)}Z", title=f"{format_time(time_ms)} UTC")[
        format_time(time_ms)[11:]
    ]


def draw_device(moment: Moment, device: str) -> h.Element:
    """A device by the first digits of its id, with its page."""
    return h.a(".id", href=moment.link_device(device), title=device)[shorten(device)]


def draw_meter(part: float, whole: float, *, label: str, tone: str = "") -> h.Element:
    """How much of something is there, as a small bar."""
    # A meter that is more than full would leave its frame.
    share = 100 * min(1.0, part / whole) if whole else 0
    return h.span(f".meter.{tone or 's0'}", role="img", aria_label=label)[h.span(style=f"width:{share:.1f}%")]


def name_cohort(cohort: str) -> h.Node:
    """A cohort's own name; devices that name none are one too."""
    return cohort or h.em["no cohort"]


def show_problem(title: str, text: str, *, status: int = 422) -> Page:
    """A page that says why there is no other."""
    return Page(title=title, area="", sections=[Section("problem", title, h.p(".empty")[text], "wide")], status=status)


def show_nothing() -> Page:
    """What stands for a view of something that is not there."""
    text = "The history knows nothing of that name at this moment."
    return show_problem("There is nothing here", text, status=404)


def make_trips(moment: Moment, members: Sequence[Row], *, staleness_max: int = 0) -> list[Trip]:
    """The members of a round as they came; of very many the last ones."""
    return [
        Trip(
            device=row["device"],
            link=moment.link_record(row["at_topic"], partition=row["at_partition"], offset=row["at_offset"]),
            checked_in_ms=row["checked_in_ms"],
            leased_ms=row["leased_ms"],
            sent_ms=row["sent_ms"],
            admitted_ms=row["at_ms"],
            tone=f"t{find_step(row['staleness'], staleness_max)}",
        )
        for row in members[-TRIPS_MAX:]
    ]


def draw_choice(name: str, words: Sequence[str], *, chosen: str) -> h.Element:
    """A choice of one of some words, or all; what was chosen stays there even where it is none of them."""
    known = words if chosen in (*words, "") else [chosen, *words]
    return h.label[
        name,
        h.select(name=name)[
            h.option(value="")["all"],
            (h.option(value=word, selected=word == chosen)[word] for word in known),
        ],
    ]
