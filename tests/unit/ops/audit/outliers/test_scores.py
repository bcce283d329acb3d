"""Scores of updates beside their rounds: what a textbook says, and who is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ops.audit.outliers.scores import OUTLYING, ROUNDS_MIN, Measured, Member, Scorer, judge, score_robustly

CLIP = 1 << 16


@given(st.lists(st.integers(-1_000, 1_000), min_size=3, max_size=30))
def test_a_score_is_the_textbooks(values: list[int]) -> None:
    """Guarantee: 0.6745 (x - median) / MAD, where more than half of the values are not alike."""
    array = np.array(values, float)
    mad = stats.median_abs_deviation(array)
    found = score_robustly(array)
    if mad:
        assert found == pytest.approx(0.6745 * (array - np.median(array)) / mad)
    assert all(found[array == np.median(array)] == 0)


def measure(device: str, z: float) -> Measured:
    return Measured(device, 0.1, 0.1, 0.5, None, z)


def test_a_device_is_named_for_most_of_its_rounds() -> None:
    """Guarantee: one update that stands out names nobody, nor do few rounds; the named come first."""
    seen = [*[measure("often", 9.0)] * 3, *[measure("once", 0.0)] * 3, measure("once", 9.0), measure("new", 9.0)]
    found = {one.device: one for one in judge(seen)}
    assert next(one.device for one in judge(seen)) == "often"
    assert [name for name, one in found.items() if one.is_outlier] == ["often"]
    assert (found["once"].rounds, found["once"].outlying) == (4, 1)
    assert found["new"].rounds < ROUNDS_MIN


@given(st.integers(0, 2**32 - 1))
def test_attackers_stand_out_and_honest_ones_do_not(seed: int) -> None:
    """Guarantee: who sends the negative of the others, or noise as long as the clip, is named; of the honest nobody."""
    draw, scorer = np.random.default_rng(seed), Scorer(CLIP)
    way = draw.normal(size=40)
    for _ in range(6):
        honest = way + 0.5 * draw.normal(size=(16, 40))
        noise = draw.normal(size=40)
        rows = [*honest, -3 * way, 6 * noise / np.linalg.norm(noise) * np.linalg.norm(way)]
        members = [Member(f"d{place}", np.rint(row * 1_000).astype(np.int64)) for place, row in enumerate(rows)]
        scorer.add_round(members, np.median([member.vector for member in members], axis=0))
    found = scorer.judge()
    assert {one.device for one in found if one.is_outlier} == {"d16", "d17"}
    assert all(one.rounds == 6 and one.cosine_past is not None for one in found)
    assert next(one for one in found if one.device == "d16").cosine < 0


def test_alike_is_no_outlier() -> None:
    """Guarantee: where all send the same nobody stands out, nor does rounding make anybody."""
    scorer = Scorer(CLIP)
    row = np.full(3, 7)
    found = scorer.add_round([Member(f"d{place}", row) for place in range(5)], row.astype(float))
    assert all(abs(one.z) < OUTLYING and one.distance == 0 for one in found)
    assert scorer.add_round([Member("d0", row * 0)], np.zeros(3))[0].cosine == 0
