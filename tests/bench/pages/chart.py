"""Small charts as SVG: panels side by side, each with lines or bars over one axis, and nothing to install for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT, MARGIN = 420, 250, 46
NAME_HEIGHT = 13  # of a line in the legend
COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#8d6a9f", "#e0a030")


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart: a line for each name, or bars for the only one; `x` are the values along the axis.

    `log` draws both axes by powers of ten, where growth is the point: a straight line is a power of x.
    """

    title: str
    x_label: str
    x: Sequence[float]
    lines: dict[str, Sequence[float]]
    bars: bool = False
    log: bool = False


def svg(panels: Sequence[Panel], *, columns: int = 2) -> str:
    """All panels as one picture, `columns` in a row."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    drawn = [
        f'<g transform="translate({index % columns * WIDTH},{index // columns * HEIGHT})">{_panel(panel)}</g>'
        for index, panel in enumerate(panels)
    ]
    size = f'width="{columns * WIDTH}" height="{rows * HEIGHT}" viewBox="0 0 {columns * WIDTH} {rows * HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *drawn, "</svg>\n"])


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where a value lies between 0 and 1, and which values are marked."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], *, log: bool, from_zero: bool) -> _Axis:
        low, high = min(values), max(values)
        if log:
            return cls(10 ** floor(log10(low)), 10 ** max(ceil(log10(high)), floor(log10(low)) + 1), log=True)
        return cls(0 if from_zero else low, high or 1, log=False)

    def at(self, value: float) -> float:
        if self.log:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / ((self.high - self.low) or 1)

    def marks(self) -> list[float]:
        if self.log:
            decades = round(log10(self.high / self.low))
            return [self.low * 10.0**power for power in range(decades + 1)]
        return [self.low, (self.low + self.high) / 2, self.high]


def _panel(panel: Panel) -> str:
    every = [value for values in panel.lines.values() for value in values]
    x_axis = _Axis.over(panel.x, log=panel.log, from_zero=False)
    y_axis = _Axis.over(every, log=panel.log, from_zero=True)

    # The names of the lines stand above the plot, so that none is written across a line.
    top = max(MARGIN, 20 + NAME_HEIGHT * len(panel.lines))

    def across(value: float) -> float:
        return MARGIN + x_axis.at(value) * (WIDTH - 2 * MARGIN)

    def up(value: float) -> float:
        return HEIGHT - MARGIN - y_axis.at(value) * (HEIGHT - MARGIN - top)

    parts = [_text(MARGIN, 20, panel.title, bold=True), _text(WIDTH / 2, HEIGHT - 8, panel.x_label)]
    for mark in y_axis.marks():
        y = up(mark)
        parts.append(f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>')
        parts.append(_text(MARGIN - 4, y + 4, _number(mark), anchor="end"))
    parts += [_text(across(x), HEIGHT - MARGIN + 14, _number(x), anchor="middle") for x in x_axis.marks()]
    for index, (name, values) in enumerate(panel.lines.items()):
        places = [(across(x), up(value)) for x, value in zip(panel.x, values, strict=True)]
        colour = COLOURS[index % len(COLOURS)]
        if panel.bars:
            parts += [
                f'<path d="M{x:.1f} {HEIGHT - MARGIN:.1f}V{y:.1f}" stroke="{colour}" stroke-width="8"/>'
                for x, y in places
            ]
        else:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts.append(_text(WIDTH - MARGIN, 20 + NAME_HEIGHT * index, name, anchor="end", colour=colour))
    return "".join(parts)


def _number(value: float) -> str:
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= unit and value % (unit / 10) == 0:
            return f"{value / unit:g}{letter}"
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _text(x: float, y: float, text: str, **how: str | bool) -> str:
    weight = ' font-weight="bold"' if how.get("bold") else ""
    anchor, colour = how.get("anchor", "start"), how.get("colour", "#222")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(text)}</text>'
