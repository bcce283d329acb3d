"""The release of a question: the exact sum of shares becomes statistics in their own units, rounded once (law 6)."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.deciders.arithmetic.statistics import find_metrics, release, spread_bounds
from schemas.events import TensorSpec
from schemas.policy import WEIGHT_ONE, Measure, Policy, Statistic
from tests.survey import measuring_policy
from tests.worlds.builders import policy, task_created

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


# --- scores of a federated evaluation ---------------------------------------------------------------------------------


def _metrics(release: str = "mean", of: Policy | None = None, **told: float | list[float]) -> tuple[Any, int]:
    """What three devices have said about a version, as a score of its task."""
    arrays = {name: np.array(value, np.float32) for name, value in told.items()}
    asked = {name: {"bound": 64.0, "shape": array.shape} for name, array in arrays.items()}
    measure = msgspec.convert({"plugin": "mine:ask", "statistics": asked, "release": release}, Measure)
    rules = msgspec.structs.replace(measuring_policy(), measure=measure)
    tensors = tuple(TensorSpec(name=name, shape=array.shape) for name, array in arrays.items())
    created = task_created(rules, tensors=tensors, parameters=sum(array.size for array in arrays.values()))
    vector = np.concatenate([array.ravel() for array in arrays.values()])
    return find_metrics(vector, created, members=3, of=of or policy())


@pytest.mark.parametrize(("release", "times"), [("mean", 1), ("sum", 3)])
def test_a_metric_is_over_all_examples_where_these_were_counted(release: str, times: int) -> None:
    """As evaluators score: a device with many examples counts more. Both releases say the same."""
    told = {"examples": 8.0 * times, "accuracy": 0.5 * times, "accuracy_times_examples": 6.0 * times}
    assert _metrics(release, **told) == ({"accuracy": 0.75}, 24)


def test_without_a_count_a_metric_is_the_mean_over_devices() -> None:
    """A question may ask for the metric alone; the examples are then unknown, and devices count."""
    assert _metrics("sum", accuracy=1.5) == ({"accuracy": 0.5}, 3)
    assert _metrics(of=policy(evaluation={"metric": "dice"}), dice=0.25, other=9.0) == ({"dice": 0.25}, 3)


def test_other_statistics_are_no_metrics() -> None:
    """An age, and what has a shape, say nothing of a version; nor does a number that is none."""
    assert _metrics(examples=8.0, old=13.0, accuracy=[0.5, 0.5]) == ({}, 24)
    assert _metrics(accuracy=math.inf, loss=0.5) == ({"loss": 0.5}, 3)


def test_noise_makes_no_count_below_none() -> None:
    """With privacy the number of examples can be anything; nobody is scored on fewer than none."""
    assert _metrics(examples=-4.0, accuracy=0.5) == ({"accuracy": 0.5}, 0)
