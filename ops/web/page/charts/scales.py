"""From values to places on a chart, and the frame that charts share: axes, grid, and the table beside it.

A plot is stretched to its width; text stands outside of it as HTML, so that it has one size on a phone and on a wall.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import htpy as h

from ops.web.page.formats import format_number

# Plots have a size of their own, to which all places refer; it is stretched to what the page gives.
WIDTH, HEIGHT = 600, 160


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from `low` to `high` to 0 to `size`: linearly, or by their logarithm where both are above 0."""

    low: float
    high: float
    size: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where the value is; one value alone is in the middle."""
        if self.high == self.low:
            return self.size / 2
        if self.is_log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low) * self.size
        return (value - self.low) / (self.high - self.low) * self.size


def make_ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Round values from at most `low` to at least `high`, in equal steps of 1, 2 or 5."""
    # What differs by less than marks can tell is one value.
    if high - low < 1e-11 * max(1, abs(low), abs(high)):
        high = low + (abs(low) if abs(low) > 1e-9 else 1)
    # The smallest of 1, 2, 5 times a power of ten that gives no more steps than asked for.
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(size * magnitude for size in (1, 2, 5, 10) if size * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # Whole multiples, because adding a step again and again drifts.
    return [round(number * step, 12) for number in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Axis:
    """The marks of a vertical axis, the lowest first."""

    ticks: Sequence[float]
    unit: str = ""
    is_log: bool = False

    def make_scale(self, size: float) -> Scale:
        """From its lowest mark to its highest."""
        return Scale(self.ticks[0], self.ticks[-1], size, self.is_log)


def make_decades(low: float, high: float) -> list[float]:
    """Powers of ten from at most `low`, which is above 0, to at least `high`."""
    return [10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]


def join_points(points: Iterable[tuple[float, float]]) -> str:
    """A path through points, each rounded to a tenth of a unit."""
    # A tenth of a unit is less than a pixel, and a digit more would make the page heavier.
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def draw_dots(points: Iterable[tuple[float, float]], kind: str) -> h.Element:
    """Dots that stay round however the plot is stretched: strokes without a length, with round ends."""
    # A circle would be an ellipse as soon as the plot is stretched.
    return h.path(class_=f"dot {kind}", d="".join(f"M{x:.1f} {y:.1f}h0" for x, y in points))


def draw_frame(plot: h.Node, *, label: str, axis: Axis, marks_x: Sequence[tuple[float, str]]) -> h.Element:
    """A plot with its axes. `marks_x`: places from 0 to 1, and what stands there."""
    scale = axis.make_scale(100)
    rows = [(100 - scale.place(tick), f"{format_number(tick)}{axis.unit}") for tick in axis.ticks]
    grid = h.path(class_="grid", d="".join(f"M0 {y * HEIGHT / 100:.1f}H{WIDTH}" for y, _ in rows))
    # For those who see it; the table below says the same to everybody else.
    return h.div(".chart", aria_hidden="true")[
        h.div(".axis-y")[(h.span(style=f"top:{y:.1f}%")[text] for y, text in rows)],
        h.div(".plot", title=label)[
            h.svg(viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", focusable="false")[grid, plot]
        ],
        h.div(".axis-x")[(h.span(style=f"left:{100 * x:.1f}%")[text] for x, text in marks_x)],
    ]


def draw_table(
    columns: Sequence[str], rows: Iterable[Sequence[h.Node]], *, summary: str = "as a table", of: str = ""
) -> h.Element:
    """The numbers of a chart as a table, folded away. `of`: what the chart shows, in words."""
    return h.details(".numbers")[
        h.summary[summary, h.span(".unseen")[f": {of}"] if of else None],
        make_table(columns, rows, caption=of),
    ]


def make_table(columns: Sequence[str], rows: Iterable[Sequence[h.Node]], *, caption: str = "") -> h.Element:
    """A table in a frame that scrolls by itself where the page is narrow."""
    # Whoever uses the keyboard alone must be able to scroll it too.
    return h.div(".scroll", tabindex="0", role="group", aria_label=caption or columns[0])[
        h.table[
            h.thead[h.tr[(h.th(scope="col")[name] for name in columns)]],
            h.tbody[(h.tr[(h.td[cell] for cell in row)] for row in rows)],
        ]
    ]
