"""Noise drawn once (law 7): the right distribution, from integers only, and never another for the same proposal."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.arithmetic import noise
from actors.deciders.arithmetic.noise import Table, compute_thresholds, count_thresholds, draw, ladder
from actors.keys import NoiseKey
from schemas.events import Mechanism, RoundProposed
from tests.worlds.builders import round_proposed

KEY = NoiseKey(bytes.fromhex("6eed33ea99a616bf03f6e47ff63a356b7b31cc85d7648bcae7d789956e0e3e95"))
MECHANISM = Mechanism(
    noise_multiplier=1.0,
    clip_steps=1 << 16,
    weight_max=1 << 20,
    sigma=1 << 36,
    sampler="ladder-2",
    key_id=KEY.id,
)
PROPOSAL = round_proposed(
    4, members_root=b"r" * 32, members=50, weight_sum=50 << 20, mechanism=MECHANISM, participations_max=5
)
INTEGER = {"gcd", "lcm", "isqrt", "isfinite"}  # of math; Fraction reduces with gcd, encoding asks isfinite
GOLDEN = "7b059acc16715800a4db706c82a7feea5c5574d027f12d81220f569a30fcb026"
# Of 20,000 draws, recorded before they were made in blocks: one rung, narrow and wide, then two, four and six.
GOLDEN_BY_SIGMA = {
    1: "15df1d69c63cb95add03b48eff59d948c2dfd2570dcd258109590791b82dd756",
    100: "4b46d2c8cdd85426ffce56fa749cd745e6f506652f9a3809c406514dc5113946",
    4_579: "e4b35c17ff50414e007a6f697fc7fcb04660a0f4e6f62e993b48d7dbad131488",
    4_580: "be7909cdcdb184c1ce68c2fa97756bd0f0ead475431899d1c5188b0e724f84d2",
    1 << 20: "9810deab190a52f9c2c944fb059949a9f676f02c3f96487ad84f3c71d105bf3b",
    1 << 36: "5f1cd2c2378d3a25de258f1478f4fc811dce7256ac699c545d5543d59f55b23f",
    1 << 50: "14c19a13e79b3404dc01ed22784ad9df55c2412f4a653d2239cf7f23d512cd96",
}


def _proposal(sigma: int) -> RoundProposed:
    return msgspec.structs.replace(PROPOSAL, mechanism=msgspec.structs.replace(MECHANISM, sigma=sigma))


def test_the_same_key_and_proposal_give_the_same_noise() -> None:
    """A crash between draw and publish, a full replay, another machine: the same bits, and this draw for ever."""
    drawn = draw(KEY.secret, PROPOSAL, parameters=1_000)
    assert drawn.tobytes() == draw(KEY.secret, PROPOSAL, parameters=1_000).tobytes()
    assert hashlib.sha256(drawn.astype("<i8").tobytes()).hexdigest() == GOLDEN


@pytest.mark.parametrize("sigma", GOLDEN_BY_SIGMA)
def test_every_rung_draws_what_it_always_drew(sigma: int) -> None:
    """A faster way to the same draws: on any number of rungs, across blocks, not one bit is another."""
    drawn = draw(KEY.secret, _proposal(sigma), parameters=20_000)
    assert hashlib.sha256(drawn.astype("<i8").tobytes()).hexdigest() == GOLDEN_BY_SIGMA[sigma]


def test_the_last_bits_of_a_block_are_those_of_its_place() -> None:
    """They decide so seldom that no recorded draw asks for them."""
    whole = noise.read_words(noise.start_stream(bytes(32), 3), 900)
    assert np.array_equal(noise._read_low_words(bytes(32), 3, start=500, count=400), whole[500:])


CHANGES: list[dict[str, Any]] = [
    {"task": "digits-2"},
    {"round": 5},
    {"members_root": b"s" * 32},
    {"members": 51},
    {"weight_sum": 1},
    {"participations_max": 6},
    {"mechanism": msgspec.structs.replace(MECHANISM, noise_multiplier=1.5)},
    {"mechanism": msgspec.structs.replace(MECHANISM, clip_steps=1 << 15)},
    {"mechanism": msgspec.structs.replace(MECHANISM, weight_max=1 << 21)},
    {"mechanism": msgspec.structs.replace(MECHANISM, key_id=bytes(8))},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_any_other_proposal_gives_independent_noise(changes: dict[str, Any]) -> None:
    """Two proposals never share noise: their difference would cancel it."""
    one = draw(KEY.secret, PROPOSAL, parameters=4_000).astype(np.float64)
    other = draw(KEY.secret, msgspec.structs.replace(PROPOSAL, **changes), parameters=4_000).astype(np.float64)
    assert (one == other).sum() == 0
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.08


def test_another_key_gives_other_noise() -> None:
    """Whoever reads the log, but not the operator's key file, cannot take the noise off again."""
    assert (draw(KEY.secret, PROPOSAL, parameters=100) == draw(bytes(32), PROPOSAL, parameters=100)).sum() == 0


def test_a_longer_draw_begins_with_the_shorter() -> None:
    """Each element has its place in the stream."""
    longer = draw(KEY.secret, PROPOSAL, parameters=1_000)
    assert np.array_equal(draw(KEY.secret, PROPOSAL, parameters=10), longer[:10])


def test_the_sampler_uses_integers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither libm nor numpy's generators are touched, tables included; the draw is the same without them."""
    expected = draw(KEY.secret, PROPOSAL, parameters=100)

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the sampler asked for floating point or for entropy")

    for module in (math, np.random):
        for name in {name for name in dir(module) if name[0] != "_" and callable(getattr(module, name))} - INTEGER:
            if not isinstance(getattr(module, name), type):
                monkeypatch.setattr(module, name, forbidden)
    for name in ("exp", "log", "sqrt", "rint", "floor"):
        monkeypatch.setattr(np, name, forbidden)
    noise.make_table.cache_clear()
    drawn = draw(KEY.secret, PROPOSAL, parameters=100)
    assert drawn.dtype == np.int64
    assert np.array_equal(drawn, expected)


# --- the true distance from a discrete Gaussian ---------------------------------------------------------------------

DISTANCE_MAX = Fraction(1, 1 << 107)  # of one rung, in docs/decisions/0007-ladder-sampler.md and docs/privacy.md
SMOOTHING_MAX = -300.0  # log2 of what a density may be off by, there too


@pytest.mark.parametrize("variance", [1, 64, 1 << 22, (1 << 22) + (1 << 24)], ids=str)
def test_a_rung_is_as_near_to_a_discrete_gaussian_as_the_docs_say(variance: int) -> None:
    """The total variation of the tables that ship, exactly, with what lies beyond their ends."""
    thresholds, lowest = compute_thresholds(Fraction(variance))
    assert [*map(int, _read_thresholds(noise.make_table(Fraction(variance))))] == thresholds
    cells = [high - low for low, high in pairwise([0, *thresholds, 1 << 127])]
    with localcontext(Context(prec=70)):
        reach = -lowest
        # From the definition, a third further than the tables: what lies beyond that is below 2^-180.
        weights = [(-Decimal(k * k) / (2 * variance)).exp() for k in range(reach * 4 // 3 + 4)]
        whole = weights[0] + 2 * sum(weights[1:])
        off = sum(abs(Decimal(cell) / (1 << 127) - weights[abs(k)] / whole) for k, cell in enumerate(cells, lowest))
        beyond = 2 * sum(weights[reach + 1 :]) / whole
        distance = Fraction((off + beyond) / 2)
    assert len(cells) == 2 * reach + 1
    assert distance < DISTANCE_MAX
    # A bound that is far too wide would be no figure; narrow tables reach further than their 12 sigma.
    assert variance < 1 << 22 or distance > DISTANCE_MAX / 2


def test_the_last_cell_has_its_own_probability() -> None:
    """What is furthest out is drawn as seldom as its definition says, on both sides."""
    thresholds, _ = compute_thresholds(Fraction(1 << 22))
    first, last = thresholds[0], (1 << 127) - thresholds[-1]
    assert abs(first - last) <= 1
    assert 0 < last < 1 << 12


@given(sigma=st.one_of(st.integers(1, 1 << 13), st.integers(1, 1 << 50)))
def test_the_ladders_variances_sum_exactly(sigma: int) -> None:
    """The rungs together have the mechanism's variance, to the last unit, and each smooths the next."""
    rungs = ladder(sigma)
    assert sum(variance * (1 << 18 * rung) for rung, variance in enumerate(rungs)) == Fraction(sigma) ** 2
    assert all(variance > 0 for variance in rungs)
    assert len(rungs) == 1 or rungs[-1] >= 64
    for fine, coarse in pairwise(rungs):
        spread = 1 / (1 / fine + 1 / (coarse * (1 << 18)))
        assert math.log2(2.1) - 2 * math.pi**2 * float(spread) / (1 << 18) / math.log(2) < SMOOTHING_MAX


def _read_thresholds(table: Table) -> list[int]:
    return [(int(high) << 64) + int(low) for high, low in zip(table.high, table.low, strict=True)]


@pytest.mark.parametrize("variance", [1, 12, 1 << 22])
def test_a_uniform_draws_what_all_its_127_bits_say(variance: int) -> None:
    """At each threshold the last bit decides: below it the value before, from it on the value behind."""
    table = noise.make_table(Fraction(variance))
    thresholds = _read_thresholds(table)
    step = max(1, len(thresholds) // 500)
    tried = [u for t in [*thresholds[::step], *thresholds[-9:]] for u in (t - 1, t, t + 1) if 0 <= u < 1 << 127]
    tried += [0, (1 << 127) - 1]
    high, low = (np.array(words, np.uint64) for words in zip(*(divmod(u, 1 << 64) for u in tried), strict=True))
    found = count_thresholds(table, high, make_low=lambda: low)
    assert found.tolist() == [bisect_right(thresholds, u) for u in tried]


@pytest.mark.parametrize("variance", [Fraction(1), Fraction(7, 3), Fraction(12), Fraction(1 << 22)])
def test_tables_are_the_same_when_computed_again(variance: Fraction) -> None:
    """A table is a function of its variance alone, and ascends."""
    table = noise.make_table(variance)
    noise.make_table.cache_clear()
    again = noise.make_table(variance)
    assert [*map(bytes, table[:3]), table.lowest] == [*map(bytes, again[:3]), again.lowest]
    thresholds = _read_thresholds(table)
    assert thresholds == sorted(thresholds)


# --- what is drawn --------------------------------------------------------------------------------------------------


def _density(sigma: int, reach: int) -> dict[int, float]:
    """The exact discrete Gaussian, from its definition."""
    weights = {k: math.exp(-(k * k) / (2 * sigma * sigma)) for k in range(-reach, reach + 1)}
    whole = sum(weights.values())
    return {k: weight / whole for k, weight in weights.items()}


@pytest.mark.parametrize("sigma", [1, 2, 5])
def test_small_sigmas_have_the_exact_distribution(sigma: int) -> None:
    """Chi-square against the discrete Gaussian itself: every value is as frequent as its definition says."""
    count = 200_000
    drawn = draw(KEY.secret, _proposal(sigma), parameters=count)
    density = {k: p for k, p in _density(sigma, 12 * sigma).items() if p * count >= 20}
    statistic = sum(((drawn == k).sum() - p * count) ** 2 / (p * count) for k, p in density.items())
    freedom = len(density) - 1
    assert statistic < freedom + 6 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("sigma", [3, 100, 4_579, 4_580, 1 << 20, 1 << 36])
def test_moments_are_a_gaussians(sigma: int) -> None:
    """Mean 0, the mechanism's variance, no skew, kurtosis 3, on one rung, right above the first, and on several."""
    count = 200_000
    drawn = draw(KEY.secret, _proposal(sigma), parameters=count) / sigma
    assert abs(drawn.mean()) < 6 / math.sqrt(count)
    assert abs((drawn**2).mean() - 1) < 6 * math.sqrt(2 / count)
    assert abs((drawn**3).mean()) < 6 * math.sqrt(15 / count)
    assert abs((drawn**4).mean() - 3) < 6 * math.sqrt(96 / count)


@pytest.mark.parametrize("sigma", [4_580, 1 << 20])
def test_no_rung_shows_through(sigma: int) -> None:
    """A coarse rung is smoothed by the finer one: remainders to its base are as even as they must be."""
    count = 200_000
    remainders = np.bincount(draw(KEY.secret, _proposal(sigma), parameters=count) % 512, minlength=512)
    statistic = float(((remainders - count / 512) ** 2 / (count / 512)).sum())
    assert statistic < 511 + 6 * math.sqrt(2 * 511)
