"""Axes have round numbers around what is shown, and a chart has its table."""

from __future__ import annotations

import itertools

import htpy as h
from hypothesis import example, given
from hypothesis import strategies as st

from ops.web.page.charts.scales import Axis, Scale, draw_table, make_decades, make_ticks

values = st.floats(-1e6, 1e6)


@given(values, values)
@example(0.0, 5e-324)
@example(1e6, 1e6 - 1e-10)
def test_ticks_are_equal_steps_around_the_values(one: float, other: float) -> None:
    """Whatever is drawn lies between the first and the last tick, and there are few enough to read."""
    low, high = min(one, other), max(one, other)
    ticks = make_ticks(low, high)
    slack = 1e-6 * max(1, abs(low), abs(high))
    assert ticks[0] <= low + slack
    assert ticks[-1] >= high - slack
    assert 2 <= len(ticks) <= 8
    steps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert max(steps) - min(steps) <= slack


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=9))
def test_decades_hold_every_value_in_its_order(values: list[float]) -> None:
    """By its logarithm a night among seconds leaves the seconds apart, and nothing leaves the plot."""
    scale = Axis(make_decades(min(values), max(values)), is_log=True).make_scale(100)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(-1e-9 <= place <= 100 + 1e-9 for place in places)
    assert round(Axis([1, 10, 100, 1000], is_log=True).make_scale(90).place(10), 9) == 30


def test_one_value_is_in_the_middle() -> None:
    """A scale of a single value divides by nothing."""
    assert Scale(3, 3, 100).place(3) == 50


def test_a_table_escapes_what_devices_name() -> None:
    """A label is text wherever it came from."""
    text = str(draw_table(["<b>"], [["<script>alert(1)</script>"]], of="it's"))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert str(h.p["a & b"]) == "<p>a &amp; b</p>"
