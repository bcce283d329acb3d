"""What is left of a budget, as the fuel gauge of a car: full on the right, empty on the left."""

from __future__ import annotations

import math

import htpy as h

from ops.web.page.formats import format_share

RADIUS, CENTER_X, CENTER_Y = 80, 100, 96


def draw_gauge(left: float, *, label: str, is_low: bool) -> h.Element:
    """`left`: the share that is left, 0 to 1. Its numbers stand beside it as text."""
    # A budget may be overspent by rounding, and a needle cannot turn further than its scale.
    left = min(1.0, max(0.0, left))
    tip_x, tip_y = _place(left, RADIUS + 9)
    # From within the arc outwards, so that the number in the middle stays readable.
    foot_x, foot_y = _place(left, RADIUS - 16)
    ticks = "".join(
        "M{:.1f} {:.1f}L{:.1f} {:.1f}".format(*_place(share, RADIUS + 10), *_place(share, RADIUS + 15))
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    return h.div(".gauge", role="img", aria_label=label)[
        h.svg(viewBox="0 0 200 116", aria_hidden="true", focusable="false")[
            h.path(class_="gauge-track", d=_make_arc(0, 1)),
            # The reserve is marked before it is reached, as on a tank.
            h.path(class_="gauge-reserve", d=_make_arc(0, 0.15)),
            h.path(class_=f"gauge-fill{' low' if is_low else ''}", d=_make_arc(0, left)) if left > 0.004 else None,
            h.path(class_="gauge-ticks", d=ticks),
            h.path(class_="gauge-needle", d=f"M{foot_x:.1f} {foot_y:.1f}L{tip_x:.1f} {tip_y:.1f}"),
            h.text(class_="gauge-letter", x=20, y=114, text_anchor="middle")["empty"],
            h.text(class_="gauge-letter", x=180, y=114, text_anchor="middle")["full"],
        ],
        h.div(".gauge-value")[format_share(left, 1), h.small["left"]],
    ]


def _place(share: float, radius: float) -> tuple[float, float]:
    angle = math.pi * (1 - share)
    return CENTER_X + radius * math.cos(angle), CENTER_Y - radius * math.sin(angle)


def _make_arc(first: float, last: float) -> str:
    (x, y), (end_x, end_y) = _place(first, RADIUS), _place(last, RADIUS)
    return f"M{x:.1f} {y:.1f}A{RADIUS} {RADIUS} 0 0 1 {end_x:.1f} {end_y:.1f}"
