"""A curve of many versions stays light, names each of its points, and can be pointed at everywhere."""

from __future__ import annotations

import re
from itertools import pairwise

import htpy as h
import pytest

from ops.web.page.charts.lines import TARGETS_MAX, Curve, draw_curve
from ops.web.page.charts.scales import WIDTH
from ops.web.page.questions.courses import POINTS_MAX

CURVE_BYTES_MAX = 30_000


@pytest.mark.parametrize("count", [1, 2, TARGETS_MAX, TARGETS_MAX + 1, POINTS_MAX])
def test_a_curve_is_light_and_whole(count: int) -> None:
    """As many points as a course ever has: each stands in the table, the newest can be clicked, no place is dead."""
    points = [(number * 4_117, 0.123456 + number / 7_000) for number in range(count)]
    links = [f"/tasks/campus.digits/versions/{x}" for x, _ in points]
    text = str(h.div[draw_curve(Curve(name="accuracy", points=points, links=links))])
    assert len(text.encode()) <= CURVE_BYTES_MAX
    drawn, table = text.split("<details")
    assert table.count("<tr>") == count + 1
    assert links[-1] in drawn
    targets = [(float(x), float(width)) for x, width in re.findall(r'x="([\d.]+)" y="0" width="([\d.]+)"', drawn)]
    assert len(targets) <= TARGETS_MAX
    assert targets[0][0] == 0
    assert sum(targets[-1]) == WIDTH
    assert all(left + width == pytest.approx(right, abs=0.2) for (left, width), (right, _) in pairwise(targets))
