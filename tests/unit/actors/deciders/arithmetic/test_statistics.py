"""The release of a question: the exact sum of shares becomes statistics in their own units, rounded once (law 6)."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from actors.deciders.arithmetic.statistics import release, spread_bounds
from schemas.policy import WEIGHT_ONE, Measure, Policy, Statistic
from tests.survey import measuring_policy

STATISTICS = {"few": Statistic(bound=0.3), "many": Statistic(bound=1000.0, shape=(2, 2)), "one": Statistic(bound=7.0)}
STEPS = 1 << 20


def _rules(how: str = "mean") -> Policy:
    asked = {name: {"bound": one.bound, "shape": one.shape} for name, one in STATISTICS.items()}
    return measuring_policy(measure={"statistics": asked, "release": how}, clipping={"norm": 3.0, "steps": STEPS})


def test_each_element_has_the_bound_of_its_statistic() -> None:
    """In the order of the policy, which is that of the vector."""
    bounds = spread_bounds(Measure(plugin="mine:ask", statistics=STATISTICS))
    assert bounds.tolist() == [0.3, 1000.0, 1000.0, 1000.0, 1000.0, 7.0]


@pytest.mark.parametrize("how", ["mean", "sum"])
def test_a_release_is_the_exact_value_rounded_once(how: str) -> None:
    """Within half a step of float32, and what float64 loses, of the fraction that the integers say."""
    total = np.random.default_rng(1).integers(-9 * STEPS, 9 * STEPS, 6) * WEIGHT_ONE + 12_345
    found = release(total, _rules(how), members=9)
    assert found.dtype == np.float32
    bounds = spread_bounds(Measure(plugin="mine:ask", statistics=STATISTICS)).tolist()
    for value, q, bound in zip(found.tolist(), total.tolist(), bounds, strict=True):
        exact = Fraction(q, WEIGHT_ONE) * Fraction(3, STEPS) * Fraction(bound) / (9 if how == "mean" else 1)
        assert abs(Fraction(value) - exact) <= abs(exact) * Fraction(1, 2**24) * Fraction(1001, 1000)


def test_the_bits_are_these() -> None:
    """Golden: any machine publishes them, and a full replay recomputes them years later."""
    total = np.array([1, -7, 1 << 40, 3 * STEPS * WEIGHT_ONE, -1, 0], np.int64)
    assert release(total, _rules(), members=7).tobytes().hex() == GOLDEN["mean"]
    assert release(total, _rules("sum"), members=7).tobytes().hex() == GOLDEN["sum"]


GOLDEN = {
    "mean": "3ba8032a00803bb12549d643dbb6a0442549d6af00000000",
    "sum": "6666662b0010a4b200803b4500a00c4600803bb100000000",
}
