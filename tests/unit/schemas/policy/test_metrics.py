"""Metrics of devices as whole numbers: exact sums, bounded values, and nothing of what does not fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.policy.metrics import (
    METRIC_MAX,
    METRIC_SAMPLES_MAX,
    METRIC_UPDATES_MAX,
    limit_samples,
    sum_metrics,
    to_fixed,
)


@dataclass
class Told:
    """What one update reports."""

    metrics: tuple[int, ...]
    samples: int


@given(st.floats(allow_nan=True))
def test_every_number_can_be_told(value: float) -> None:
    """A loss that is infinite or NaN is the worst that can be told; others are off by less than 2^-16."""
    found = to_fixed(value)
    assert -METRIC_MAX <= found <= METRIC_MAX
    if abs(value) < 30_000:
        assert found / 65_536 == pytest.approx(value, abs=2**-16)
    if math.isnan(value):
        assert found == METRIC_MAX


@given(st.lists(st.tuples(st.integers(-METRIC_MAX, METRIC_MAX), st.integers(0, 1 << 40)), min_size=1))
def test_sums_are_exact_in_any_order(reports: list[tuple[int, int]]) -> None:
    """Law 6 for metrics: the order of updates changes nothing, and the mean is weighted by examples."""
    told = [Told((value, 65_536), limit_samples(samples)) for value, samples in reports]
    found, again = sum_metrics(told, count=2), sum_metrics(reversed(told), count=2)
    assert found == again
    assert found is not None
    assert found.samples == sum(report.samples for report in told)
    assert found.means()[1] == 1.0


def test_the_largest_sum_fits_into_an_event() -> None:
    """No round that a policy allows overflows the 64 bits of the log."""
    assert METRIC_UPDATES_MAX * METRIC_MAX * METRIC_SAMPLES_MAX < 1 << 63


def test_what_was_not_asked_for_is_not_summed() -> None:
    """Another number of values than the policy asks for is no report; without a question there is no answer."""
    assert sum_metrics([Told((1, 2), 3)], count=0) is None
    found = sum_metrics([Told((1, 2), 3), Told((), 5), Told((7,), 2)], count=1)
    assert found is not None
    assert (found.sums, found.samples) == ((14,), 2)


@pytest.mark.parametrize(("samples", "weight"), [(0, 1), (1, 1), (70, 70), (1 << 40, METRIC_SAMPLES_MAX)])
def test_what_a_device_says_of_its_examples_is_bounded(samples: int, weight: int) -> None:
    """One device cannot outweigh all others by a number."""
    assert limit_samples(samples) == weight
