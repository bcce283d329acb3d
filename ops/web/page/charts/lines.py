"""Curves over versions, and sparklines."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import htpy as h

from ops.web.page.charts.scales import (
    HEIGHT,
    WIDTH,
    Axis,
    Scale,
    draw_dots,
    draw_frame,
    draw_table,
    join_points,
    make_decades,
    make_ticks,
)
from ops.web.page.formats import format_number

# As many as a pointer can tell apart.
DOTS_MAX = TARGETS_MAX = 60
# So many times the usual value: a night in which nobody trained, among rounds of seconds.
LOG_FROM = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Points (x, y) in the order of x, and what each point leads to; `floor`: a value that the axis must show.

    `may_be_log`: by its logarithm where one value is very much larger than most.
    """

    name: str
    points: Sequence[tuple[float, float]]
    links: Sequence[str] = ()
    color: int = 0
    name_x: str = "version"
    floor: float | None = None
    ceiling: float | None = None
    unit: str = ""
    may_be_log: bool = False


def draw_curve(curve: Curve) -> h.Node:
    """One curve with axes and table; words where there is nothing to draw."""
    if not curve.points:
        return h.p(".empty")[f"No {curve.name} yet."]
    xs, ys = [x for x, _ in curve.points], [y for _, y in curve.points]
    axis = _make_axis(curve, ys)
    scale_x, scale_y = Scale(min(xs), max(xs), WIDTH), axis.make_scale(HEIGHT)
    places = [(scale_x.place(x), HEIGHT - scale_y.place(y)) for x, y in curve.points]
    last_x, last_y = curve.points[-1]
    plot = [
        h.path(class_=f"area s{curve.color}", d=f"{join_points(places)}V{HEIGHT}H{places[0][0]:.1f}Z"),
        h.path(class_=f"line s{curve.color}", d=join_points(places)),
        # Of many points dots would hide the curve; the newest is always marked.
        draw_dots(places if len(places) <= DOTS_MAX else places[-1:], f"s{curve.color}"),
        _draw_targets(curve, places),
    ]
    ends = [(0.0, format_number(xs[0])), (1.0, f"{curve.name_x} {format_number(xs[-1])}")] if len(xs) > 1 else []
    label = f"{curve.name} by {curve.name_x}: {format_number(last_y)} at {format_number(last_x)}"
    rows = [
        (h.a(href=link)[format_number(x)] if link else format_number(x), f"{format_number(y, digits=6)}{curve.unit}")
        for (x, y), link in zip(reversed(curve.points), reversed(_fill(curve)), strict=True)
    ]
    return [
        draw_frame(plot, label=label, axis=axis, marks_x=ends or [(0.5, format_number(xs[0]))]),
        draw_table([curve.name_x, curve.name], rows, of=label),
    ]


def _make_axis(curve: Curve, ys: Sequence[float]) -> Axis:
    """Linear, unless one value among small ones would press all others onto the floor."""
    if curve.may_be_log and min(ys) > 0 and max(ys) > LOG_FROM * statistics.median(ys):
        return Axis(make_decades(min(ys), max(ys)), curve.unit, is_log=True)
    low = min([*ys, *([] if curve.floor is None else [curve.floor])])
    high = max([*ys, *([] if curve.ceiling is None else [curve.ceiling])])
    return Axis(make_ticks(low, high), curve.unit)


def _fill(curve: Curve) -> Sequence[str]:
    return curve.links or [""] * len(curve.points)


def _draw_targets(curve: Curve, places: Sequence[tuple[float, float]]) -> h.Node:
    """Invisible columns that say what a point is, and lead there; the table leads there without a mouse."""
    # From the last one backwards: the newest point is what most look for.
    chosen = [*zip(curve.points, _fill(curve), places, strict=True)][:: -(1 + len(places) // TARGETS_MAX)][::-1]
    # Each is answered for halfway to its neighbours, so that no place on the plot is dead.
    middles = [(one + other) / 2 for (_, _, (one, _)), (_, _, (other, _)) in pairwise(chosen)]
    edges = [0.0, *middles, float(WIDTH)]
    targets = []
    for ((x, y), link, _), (left, right) in zip(chosen, pairwise(edges), strict=True):
        title = h.title[f"{curve.name_x} {format_number(x)}: {format_number(y, digits=6)}{curve.unit}"]
        target = h.rect(class_="target", x=f"{left:.1f}", y=0, width=f"{max(right - left, 1):.1f}", height=HEIGHT)[
            title
        ]
        targets.append(h.a(href=link, tabindex="-1")[target] if link else target)
    return targets


def draw_sparkline(values: Sequence[float], *, label: str) -> h.Element:
    """A small curve without axes; `label` says what it shows."""
    # One name for all that is drawn: a screen reader says it, and goes on.
    if len(values) < 2:
        return h.span(".spark.none", role="img", aria_label=label)
    # Room at the edges, or the dot of the newest value would be cut off.
    scale_x, scale_y = Scale(0, len(values) - 1, 116), Scale(min(values), max(values), 24)
    places = [(scale_x.place(number) + 2, 26 - scale_y.place(value)) for number, value in enumerate(values)]
    return h.span(".spark", role="img", aria_label=label)[
        h.svg(viewBox="0 0 120 28", preserveAspectRatio="none", aria_hidden="true", focusable="false")[
            h.path(class_="area s0", d=f"{join_points(places)}V28H2Z"),
            h.path(class_="line s0", d=join_points(places)),
            draw_dots(places[-1:], "s0"),
        ]
    ]
