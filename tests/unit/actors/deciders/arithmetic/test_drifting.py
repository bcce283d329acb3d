"""Distances between histograms: scipy's, the same on every machine, and seldom beyond chance where there is none."""

from __future__ import annotations

import decimal
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from actors.deciders.arithmetic import drifting
from actors.deciders.arithmetic.drifting import Distances, Histogram, compare, find_noise, join
from tests.worlds.builders import private_policy
from tests.worlds.drift.asking import drift_policy, histogram

BINS, DEVICES, EXAMPLES, RUNS = 10, 120, 30, 200
COUNTS = st.lists(st.integers(0, 40), min_size=2, max_size=9)
# Of the examples of one device: the nearer they are to each other, the more is chance.
WITHIN = 0.1
QUANTUM = 1e-6


def answer(draw: np.random.Generator, *, shift: float = 0.0, noise: float = 0.0) -> Histogram:
    """Devices whose examples are alike, each with a mean of its own, which all move by `shift`; they answer shares."""
    means = draw.normal(shift, 1.0, size=(DEVICES, 1))
    values = means + draw.normal(0, WITHIN, size=(DEVICES, EXAMPLES))
    places = np.clip(((values + 4) / 8 * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(places.ravel(), minlength=BINS) / EXAMPLES + draw.normal(0, noise, size=BINS)
    return histogram(counts.tolist(), DEVICES, noise)


def is_beyond(found: Distances | None) -> bool:
    """Whether a distance is more than chance."""
    return found is not None and (found.psi > found.psi_by_chance or found.ks > found.ks_by_chance)


@pytest.mark.parametrize("noise", [0.0, 1.0, 3.0, 8.0])
def test_of_two_hundred_runs_without_drift_few_alarm(noise: float) -> None:
    """Guarantee: with 95 % confidence at most one run in twenty without a shift alarms, with privacy's noise as well.

    Exactly: by Clopper and Pearson the upper end of the share of alarms, given those of 200 runs, is at most 0.05.
    """
    alarms = 0
    for seed in range(RUNS):
        draw = np.random.default_rng([seed, round(10 * noise)])
        alarms += is_beyond(compare(answer(draw, noise=noise), answer(draw, noise=noise)))
    upper = stats.binomtest(alarms, RUNS, alternative="less").proportion_ci(0.95, method="exact").high
    assert upper <= 0.05


@pytest.mark.parametrize(("noise", "shift"), [(0.0, 1.0), (1.0, 1.5), (3.0, 2.5)])
def test_a_planted_shift_is_found(noise: float, shift: float) -> None:
    """Guarantee: a shift of as many deviations of the devices is found in 50 runs of 50; noise hides smaller ones."""
    for seed in range(50):
        draw = np.random.default_rng(seed)
        assert is_beyond(compare(answer(draw, noise=noise), answer(draw, shift=shift, noise=noise)))


def test_noise_alone_is_no_drift() -> None:
    """Guarantee: what the noise of a release does to an unchanged histogram would be drift, did the bound not know."""
    unaware, aware = 0, 0
    for seed in range(50):
        draw = np.random.default_rng(seed)
        one, other = answer(draw, noise=8.0), answer(draw, noise=8.0)
        aware += is_beyond(compare(one, other))
        blind = [Histogram(counts=each.counts, devices=each.devices) for each in (one, other)]
        unaware += is_beyond(compare(*blind))
    assert (aware, unaware > 25) == (0, True)


@given(st.data())
def test_the_ks_distance_is_scipys(data: st.DataObject) -> None:
    """Guarantee: the distance of two histograms is that of samples that lie in their bins."""
    one = data.draw(COUNTS.filter(any))
    other = data.draw(st.lists(st.integers(0, 40), min_size=len(one), max_size=len(one)).filter(any))
    samples = [np.repeat(np.arange(len(counts)), counts) for counts in (one, other)]
    assert find(one, other).ks * QUANTUM == pytest.approx(stats.ks_2samp(*samples).statistic, abs=QUANTUM)


@given(COUNTS.filter(any), COUNTS.filter(any), st.integers(1, 500))
def test_the_psi_is_two_divergences(one: list[int], other: list[int], devices: int) -> None:
    """Guarantee: it is the sum of both relative entropies, of shares that half a device in each bin has smoothed."""
    size = min(len(one), len(other))
    if not any(one[:size]) or not any(other[:size]):
        return
    p, q = (np.array(counts[:size]) / sum(counts[:size]) * devices + 0.5 for counts in (one, other))
    expected = stats.entropy(p, q) + stats.entropy(q, p)
    assert find(one[:size], other[:size], devices).psi * QUANTUM == pytest.approx(expected, abs=2 * QUANTUM)
    assert find(one[:size], other[:size], devices).psi == find(other[:size], one[:size], devices).psi


# The PSI of categories, as Evidently 0.7.23 gave it in an environment of its own.
EVIDENTLY = [
    ([688, 3228, 2097, 2442], [2485, 2906, 309, 2044], 0.711242709),
    ([3357, 2682, 1571, 536], [2870, 1522, 3468, 1485], 0.346745726),
    ([3168, 1667, 2502, 1971, 2897], [1507, 538, 1317, 2596, 2559], 0.208382584),
    ([2836, 1804, 2637], [1201, 688, 2502], 0.176882952),
]


@pytest.mark.parametrize(("one", "other", "psi"), EVIDENTLY)
def test_the_psi_is_evidentlys(one: list[float], other: list[float], psi: float) -> None:
    """Guarantee: where half a device more in a bin makes no difference, it is what people know from that library."""
    found = compare(histogram(one, sum(one)), histogram(other, sum(other)))
    assert found is not None
    assert found.psi * QUANTUM == pytest.approx(psi, rel=0.002)


def find(one: Sequence[float], other: Sequence[float], devices: int = 100) -> Distances:
    """The distances of two histograms that say something."""
    found = compare(histogram(one, devices), histogram(other, devices))
    assert found is not None
    return found


@pytest.mark.parametrize("comparisons", [1, 2, 3, 8, 65, 128, 999])
@pytest.mark.parametrize("bins", [2, 10, 50])
def test_chance_is_the_textbooks(bins: int, comparisons: int) -> None:
    """Guarantee: without noise it is the quantile of chi-square and of Kolmogorov, more so with more comparisons."""
    counts = [1.0] * bins
    found = compare(histogram(counts, 50), histogram(counts, 200), comparisons=comparisons)
    assert found is not None
    # To the next power of two, of which there is a table.
    alarms, spread = 0.005 / 2 ** min((comparisons - 1).bit_length(), 7), 1 / 50 + 1 / 200
    exact = stats.chi2.isf(alarms, bins - 1) * spread
    # Wilson and Hilferty are near, and with two bins far out on the safe side.
    assert 0.98 * exact <= found.psi_by_chance * QUANTUM <= 1.12 * exact
    assert found.ks_by_chance * QUANTUM == pytest.approx(stats.kstwobign.isf(alarms) * spread**0.5, rel=1e-3)


def test_no_decimals_of_the_callers_change_a_bit() -> None:
    """Guarantee: whatever precision or rounding another part of the process has chosen, the result is the same."""
    one, other = [3.0, 0.1, 7.7, 1e-7], [2.0, 5.5, 1.0, 1 / 3]
    before = find(one, other)
    with decimal.localcontext(decimal.Context(prec=3, rounding=decimal.ROUND_UP)):
        assert compare(histogram(one), histogram(other)) == before
        together = join([histogram(one, noise=2.0), histogram(other, noise=1.5)])
    assert (float(together.noise), float(together.devices)) == (2.5, 200.0)


def test_the_distances_are_pinned() -> None:
    """Guarantee: the very millionths that stand in journals; another machine or release that differs fails here."""
    found = compare(histogram([10, 20, 30], 50, 0.5), histogram([12, 20, 28], 50, 0.25), comparisons=5)
    assert found == PINNED


PINNED = Distances(psi=7781, ks=33333, psi_by_chance=611214, ks_by_chance=406966)


@pytest.mark.parametrize(
    ("counts", "devices"), [([0.0, 0.0], 9), ([-3.0, 2.0], 9), ([1.0, 1.0], 0), ([1.0, 1.0], 0.99), ([1.0, 1.0], -4)]
)
def test_what_says_nothing_is_not_compared(counts: list[float], devices: float) -> None:
    """Guarantee: no examples, or fewer than one device, have no shares; noise can make any of them."""
    assert compare(histogram(counts, devices), histogram([1.0, 2.0])) is None
    assert compare(histogram([1.0, 2.0]), histogram(counts, devices)) is None


@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32)), min_size=2, max_size=6), st.floats(0, 1e9))
def test_any_counts_can_be_compared(counts: list[tuple[float, float]], noise: float) -> None:
    """Guarantee: nothing that a sum can be raises, or gives what an event cannot hold."""
    if not np.isfinite(counts).all():
        return
    one, other = (histogram(column, 7, noise) for column in zip(*counts, strict=True))
    found = compare(one, other)
    if found is not None:
        told = (found.psi, found.ks, found.psi_by_chance, found.ks_by_chance)
        assert all(0 <= value <= drifting.MILLIONTHS_MAX for value in told)


def test_the_noise_is_that_of_the_release() -> None:
    """Guarantee: z times the bound and the norm of the clip, in the units of the statistic; nothing without privacy."""
    rules = drift_policy(privacy={"noise_multiplier": 2.0, "rho_max": 50.0}, clipping={"norm": 4.0})
    assert float(find_noise(rules, "histogram")) == pytest.approx(2.0 * 4.0 * 1.0)
    assert find_noise(drift_policy(), "histogram") == 0
    assert private_policy().noise_draws == 1
