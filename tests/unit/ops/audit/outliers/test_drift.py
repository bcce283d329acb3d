"""Drift between histograms: the distances are scipy's, a planted shift is found, and chance seldom gives an alarm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ops.audit.outliers.drift import (
    Bounds,
    Histogram,
    Incommensurable,
    compute_ks,
    compute_psi,
    find_chi_square_quantile,
    judge,
)

BINS, DEVICES, EXAMPLES = 10, 120, 30
COUNTS = st.lists(st.integers(0, 40), min_size=2, max_size=9)


def ask(draw: np.random.Generator, *, shift: float = 0.0) -> Histogram:
    """A histogram of devices whose examples are alike: each has a mean of its own, and they move by `shift`."""
    means = draw.normal(shift, 1.0, size=(DEVICES, 1))
    values = means + draw.normal(0, 0.5, size=(DEVICES, EXAMPLES))
    places = np.clip(((values + 4) / 8 * BINS).astype(int), 0, BINS - 1)
    return Histogram(counts=np.bincount(places.ravel(), minlength=BINS).astype(float), devices=DEVICES)


def test_of_two_hundred_runs_without_drift_few_alarm() -> None:
    """Guarantee: at most one run in twenty without a shift gives an alarm, though examples come in clusters."""
    bounds = Bounds(psi=0.0, ks=0.0)
    alarms = 0
    for seed in range(200):
        draw = np.random.default_rng(seed)
        alarms += judge(ask(draw), ask(draw), bounds=bounds).is_drift
    assert alarms <= 10


def test_a_planted_shift_is_found() -> None:
    """Guarantee: devices that move by one deviation of theirs are found in nearly all of 50 runs."""
    found = 0
    for seed in range(50):
        draw = np.random.default_rng(seed)
        found += judge(ask(draw), ask(draw, shift=1.0), bounds=Bounds()).is_drift
    assert found >= 48


@given(st.data())
def test_the_ks_distance_is_scipys(data: st.DataObject) -> None:
    """Guarantee: the distance of two histograms is that of samples that lie in their bins."""
    one = data.draw(COUNTS.filter(any))
    other = data.draw(st.lists(st.integers(0, 40), min_size=len(one), max_size=len(one)).filter(any))
    ours = compute_ks(*(Histogram(counts=np.array(counts, float), devices=5) for counts in (one, other)))
    samples = [np.repeat(np.arange(len(counts)), counts) for counts in (one, other)]
    assert ours == pytest.approx(stats.ks_2samp(*samples).statistic, abs=1e-9)


@given(COUNTS.filter(any), COUNTS.filter(any), st.integers(1, 500))
def test_the_psi_is_two_divergences(one: list[int], other: list[int], devices: int) -> None:
    """Guarantee: it is the sum of both relative entropies, of shares that half a device in each bin has smoothed."""
    size = min(len(one), len(other))
    if not any(one[:size]) or not any(other[:size]):
        return
    pair = [Histogram(counts=np.array(counts[:size], float), devices=devices) for counts in (one, other)]
    p, q = (each.shares * devices + 0.5 for each in pair)
    assert compute_psi(*pair) == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), abs=1e-9)
    assert compute_psi(*pair) == pytest.approx(compute_psi(*pair[::-1]), abs=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 9, 49, 500])
def test_chance_is_the_textbooks(freedom: int) -> None:
    """Guarantee: the quantiles are those of the distributions that they are named after."""
    assert find_chi_square_quantile(freedom) == pytest.approx(stats.chi2.ppf(0.975, freedom), rel=0.02)
    assert stats.kstwobign.sf(1.480207) == pytest.approx(0.025, abs=1e-5)


def test_a_bound_is_the_operators() -> None:
    """Guarantee: more than chance is drift only beyond the bound, and beyond the bound only more than chance."""
    one, other = np.array([500.0, 500.0]), np.array([560.0, 440.0])
    many = [Histogram(counts=counts, devices=100_000) for counts in (one, other)]
    assert not judge(*many, bounds=Bounds(psi=0.2, ks=0.1)).is_drift
    assert judge(*many, bounds=Bounds(psi=0.01, ks=0.1)).is_drift
    assert judge(*many, bounds=Bounds(psi=0.2, ks=0.05)).is_drift
    few = [Histogram(counts=counts, devices=5) for counts in (one, other)]
    assert not judge(*few, bounds=Bounds(psi=0.0, ks=0.0)).is_drift


def test_what_cannot_be_compared_is_said() -> None:
    """Guarantee: other bins, and a histogram of nothing, are refused by name; noise below zero counts as nothing."""
    one = Histogram(counts=np.array([1.0, -3.0, 3.0]), devices=4)
    assert one.shares.tolist() == [0.25, 0.0, 0.75]
    with pytest.raises(Incommensurable, match="same bins"):
        judge(one, Histogram(counts=np.ones(4), devices=4), bounds=Bounds())
    with pytest.raises(Incommensurable, match="without a single example"):
        judge(one, Histogram(counts=np.zeros(3), devices=4), bounds=Bounds())
