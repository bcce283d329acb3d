"""The scale of a timeline keeps the order of time, and gives idle time no more room than it deserves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ops.web.page.charts.scales import WIDTH
from ops.web.page.charts.timeline import Trip, draw_timeline, squeeze


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_later_is_further_right(times: list[int]) -> None:
    """Places follow time and stay on the plot."""
    scale = squeeze(times)
    places = [scale.place(time) for time in sorted(times)]
    assert places == sorted(places)
    assert all(0 <= place <= WIDTH + 1e-6 for place in places)


def test_a_night_is_squeezed_and_marked() -> None:
    """An hour between two busy minutes takes a small part of the plot, and the mark names its length."""
    times = [*range(0, 60_000, 2_000), *range(3_660_000, 3_720_000, 2_000)]
    scale = squeeze(times)
    assert scale.place(3_660_000) - scale.place(58_000) < WIDTH / 5
    assert [gap for _, gap in scale.gaps] == [3_602_000]


def test_what_has_not_happened_is_not_drawn() -> None:
    """An update whose record retention has taken has no time of arrival, and no place for it."""
    trip = Trip(device="ab" * 16, link="/x", checked_in_ms=None, leased_ms=1_000, sent_ms=None, admitted_ms=5_000)
    text = "".join(map(str, draw_timeline([trip], [("proposed", 6_000)], label="a round")))  # type: ignore[arg-type]
    assert "check-in" in text
    assert 'class="dot sent"' not in text
    assert 'class="dot admitted"' in text
