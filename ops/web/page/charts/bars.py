"""Bars: upright ones for a histogram, lying ones for shares by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import htpy as h

from ops.web.page.charts.scales import HEIGHT, WIDTH, Axis, draw_frame, draw_table, make_ticks
from ops.web.page.formats import format_number, format_share

COLORS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar: its name, its value, what stands beside it, and where it leads. `tone`: its colour, by number."""

    name: str
    value: float
    note: str = ""
    link: str = ""
    tone: str = "s0"


def draw_histogram(bars: Sequence[Bar], *, name: str, name_x: str) -> h.Node:
    """Upright bars side by side, in the order given; words where there are none."""
    if not bars:
        return h.p(".empty")[f"No {name} yet."]
    ticks = make_ticks(0, max(bar.value for bar in bars))
    slot = WIDTH / len(bars)
    # A few bars as wide as the page would look like a wall.
    width = min(slot * 0.84, 90)
    plot = []
    for number, bar in enumerate(bars):
        height = bar.value / ticks[-1] * HEIGHT
        plot.append(
            h.rect(
                class_=f"bar {bar.tone}",
                x=f"{number * slot + (slot - width) / 2:.1f}",
                y=f"{HEIGHT - height:.1f}",
                width=f"{width:.1f}",
                height=f"{height:.1f}",
            )[h.title[f"{name_x} {bar.name}: {format_number(bar.value)}"]]
        )
    # As many names below the bars as fit a phone.
    every = max(1, len(bars) // 10)
    marks = [((number + 0.5) / len(bars), bar.name) for number, bar in enumerate(bars) if number % every == 0]
    total = sum(bar.value for bar in bars)
    label = f"{name} by {name_x}"
    rows = [(bar.name, format_number(bar.value), format_share(bar.value, total)) for bar in bars]
    return [
        draw_frame(plot, label=label, axis=Axis(ticks), marks_x=marks),
        draw_table([name_x, name, "share"], rows, of=label),
    ]


def draw_shares(bars: Sequence[Bar], *, nothing: str, whole: float | None = None) -> h.Node:
    """Lying bars with their names and values as text: a table of itself. `whole`: what a full bar stands for."""
    if not bars:
        return h.p(".empty")[nothing]
    # The longest bar fills its track, so that differences of small numbers show.
    most = whole or max(bar.value for bar in bars) or 1
    return h.ul(".shares", role="list")[
        (
            h.li[
                h.span(".name")[h.a(href=bar.link)[bar.name] if bar.link else bar.name],
                h.span(".track", aria_hidden="true")[
                    h.span(f".fill.{bar.tone}", style=f"width:{min(100, 100 * bar.value / most):.1f}%")
                ],
                h.span(".value")[bar.note or format_number(bar.value)],
            ]
            for bar in bars
        )
    ]


def name_color(number: int) -> str:
    """The colour of the n-th of several things that only differ in kind."""
    return f"c{number % COLORS}"
