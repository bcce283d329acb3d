"""What happened when in one round: a row a device, from check-in to admission, and the round's own steps across.

Time in which nothing happens is squeezed, and a mark says how much was left out.
"""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import htpy as h

from ops.web.page.charts.scales import WIDTH, draw_dots, draw_table
from ops.web.page.formats import format_clock, format_seconds, shorten

ROW_HEIGHT = 18
# A gap this many times the usual one is idle time; shorter than a second nobody would call it that.
IDLE_GAPS, IDLE_MIN_MS = 8, 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One update on its way, in milliseconds; None for what has not happened, or is not known any more."""

    device: str
    link: str
    checked_in_ms: int | None
    leased_ms: int | None
    sent_ms: int | None
    admitted_ms: int | None
    tone: str = "t0"

    def times(self) -> list[int]:
        """All that is known."""
        steps = (self.checked_in_ms, self.leased_ms, self.sent_ms, self.admitted_ms)
        return [step for step in steps if step is not None]


@dataclass(frozen=True, slots=True)
class Squeezed:
    """A scale of time whose idle stretches are short: piecewise linear between `times`."""

    times: Sequence[int]
    places: Sequence[float]
    gaps: Sequence[tuple[float, int]]

    def place(self, time_ms: int) -> float:
        """Where a time is, 0 to WIDTH."""
        after = bisect_right(self.times, time_ms)
        if after == 0:
            return self.places[0]
        if after == len(self.times):
            return self.places[-1]
        first, last = self.times[after - 1], self.times[after]
        # Within a stretch time is linear, so that two events in it keep their proportion.
        share = (time_ms - first) / (last - first)
        return self.places[after - 1] + share * (self.places[after] - self.places[after - 1])


def squeeze(times: Iterable[int]) -> Squeezed:
    """The scale for these times; at least one must be given."""
    known = sorted({*times})
    gaps = [later - earlier for earlier, later in pairwise(known)]
    # The median, because one night among many short gaps must not count as usual.
    usual = statistics.median(gaps) if gaps else 1
    limit = max(usual * IDLE_GAPS, IDLE_MIN_MS)
    widths = [min(gap, limit) for gap in gaps]
    total = sum(widths) or 1
    places, at = [0.0], 0.0
    for width in widths:
        at += width
        places.append(at / total * WIDTH)
    idle = [
        ((places[number] + places[number + 1]) / 2, gap)
        for number, (gap, width) in enumerate(zip(gaps, widths, strict=True))
        if gap > 2 * width
    ]
    return Squeezed(known, places, idle)


def draw_timeline(trips: Sequence[Trip], steps: Sequence[tuple[str, int]], *, label: str) -> h.Node:
    """`steps`: what became of the round, and when: proposed, charged, published."""
    times = [time for trip in trips for time in trip.times()] + [time for _, time in steps]
    if not times:
        return h.p(".empty")["Nothing has happened in this round yet."]
    scale = squeeze(times)
    height = max(len(trips), 1) * ROW_HEIGHT
    plot = [
        (_draw_trip(trip, scale, row=number) for number, trip in enumerate(trips)),
        (h.path(class_=f"step {name}", d=f"M{scale.place(time):.1f} 0V{height}") for name, time in steps),
        (h.path(class_="idle", d=f"M{x:.1f} 0V{height}") for x, _ in scale.gaps),
    ]
    marks = [(x / WIDTH, f"⋯ {format_seconds(gap / 1000)}", "idle") for x, gap in scale.gaps]
    marks += [(scale.place(time) / WIDTH, name, f"step {name}") for name, time in steps]
    return [
        _draw_legend(),
        h.div(".timeline", aria_hidden="true")[
            h.div(".devices")[(h.a(href=trip.link, tabindex="-1")[shorten(trip.device)] for trip in trips)],
            h.div(".plot", style=f"height:{height}px")[
                h.svg(viewBox=f"0 0 {WIDTH} {height}", preserveAspectRatio="none", focusable="false")[plot]
            ],
            h.div(".steps")[
                (h.span(class_=kind, style=f"left:{100 * x:.1f}%")[text] for x, text, kind in _space_out(marks))
            ],
            h.div(".axis-x")[
                h.span(style="left:0%")[format_clock(scale.times[0])],
                h.span(style="left:100%")[format_clock(scale.times[-1])] if len(scale.times) > 1 else None,
            ],
        ],
        draw_table(
            ["device", "check-in", "lease", "update", "admitted", "lease to update"],
            [_make_row(trip) for trip in trips],
            of=label,
        ),
        h.ul(".unseen")[(h.li[f"{name} at {format_clock(time)}"] for name, time in steps)],
    ]


def _draw_trip(trip: Trip, scale: Squeezed, *, row: int) -> h.Node:
    # The middle of its row, where the name of the device stands too.
    y = row * ROW_HEIGHT + ROW_HEIGHT / 2
    spans = (
        ("waits", trip.checked_in_ms, trip.leased_ms),
        (f"trains {trip.tone}", trip.leased_ms, trip.sent_ms or trip.admitted_ms),
        ("decides", trip.sent_ms, trip.admitted_ms),
    )
    drawn = [
        h.path(class_=f"span {kind}", d=f"M{scale.place(first):.1f} {y:.1f}H{scale.place(last):.1f}")
        for kind, first, last in spans
        if first is not None and last is not None
    ]
    known = {
        "checked-in": trip.checked_in_ms,
        "leased": trip.leased_ms,
        "sent": trip.sent_ms,
        "admitted": trip.admitted_ms,
    }
    dots = [draw_dots([(scale.place(time), y)], kind) for kind, time in known.items() if time is not None]
    return h.g[h.title[_describe(trip)], drawn, dots]


def _describe(trip: Trip) -> str:
    names = ("check-in", "lease", "update", "admitted")
    times = (trip.checked_in_ms, trip.leased_ms, trip.sent_ms, trip.admitted_ms)
    told = [f"{name} {format_clock(time)}" for name, time in zip(names, times, strict=True) if time is not None]
    return f"{shorten(trip.device)}: {', '.join(told)}"


def _make_row(trip: Trip) -> Sequence[h.Node]:
    waited = None if trip.sent_ms is None or trip.leased_ms is None else (trip.sent_ms - trip.leased_ms) / 1000
    times = (trip.checked_in_ms, trip.leased_ms, trip.sent_ms, trip.admitted_ms)
    return (h.a(href=trip.link)[shorten(trip.device)], *map(format_clock, times), format_seconds(waited))


def _space_out(marks: Sequence[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Marks whose text would lie on that of the next one go one line up, so that they read downwards in order."""
    spaced, line, after = [], 0, 2.0
    # Stable, because what happened in one millisecond comes in the order of the story.
    for x, text, kind in sorted(marks, key=lambda mark: mark[0])[::-1]:
        # Three lines are as many as a phone has room for.
        line = (line + 1) % 3 if after - x < 0.11 else 0
        spaced.append((x, text, f"{kind} line{line}"))
        after = x
    return spaced[::-1]


def _draw_legend() -> h.Element:
    return h.p(".legend.keys", aria_hidden="true")[
        (
            h.span[h.i(f".key.{kind}"), name]
            for kind, name in (
                ("checked-in", "check-in"),
                ("leased", "lease"),
                ("trains", "training"),
                ("sent", "update"),
                ("admitted", "admitted"),
            )
        )
    ]
