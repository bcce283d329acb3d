"""Scores of a round's members: who stands apart is found, and nobody can make another stand apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.arithmetic.comparing import SKETCH, Sketcher, compare, measure_cosine, score_without
from schemas.tensors import Grid, Quanta
from schemas.tensors.clipping import SCALE_ONE

CLIP = 1 << 16
Z_MIN = 3_500


def draw_round(seed: int, members: int = 12, columns: int = 40, *, agree: float = 1.0) -> Grid:
    """Honest updates: a common direction, and each its own."""
    draw = np.random.default_rng(seed)
    rows = agree * draw.normal(size=columns) + draw.normal(size=(members, columns))
    return np.asarray(np.rint(rows / np.linalg.norm(rows, axis=1).max() * CLIP / 2), np.int64)


def find_apart(rows: Grid) -> set[int]:
    """Who stands apart at the usual bound."""
    return {place for place, score in enumerate(compare(rows, clip=CLIP)) if score.z >= Z_MIN}


@pytest.mark.parametrize("factor", [-1, -5, 10])
def test_who_turns_or_lengthens_an_update_stands_apart(factor: int) -> None:
    """Two of twelve that send their update negated, or ten times as long, are found, and nobody else is."""
    rows = draw_round(3)
    rows[:2] *= factor
    assert find_apart(rows) == {0, 1}


def test_nobody_stands_apart_where_all_are_alike() -> None:
    """A round without any spread makes no outlier of a rounding, and one of nothing at all none either."""
    rows = np.repeat(draw_round(1)[:1], 8, axis=0)
    rows[3, 0] += 40
    assert find_apart(rows) == set()
    assert find_apart(np.zeros((8, 5), np.int64)) == set()


def test_a_cosine_says_whether_two_updates_mean_the_same() -> None:
    """A thousand for the same at any length, its negative turned round, about none for chance; nothing has none."""
    rows = draw_round(5, members=2, columns=20_000, agree=0.0)
    one, other = (
        Sketcher(b"seed", 20_000).sketch(Quanta.from_values(row.astype(np.int32)), scale=SCALE_ONE) for row in rows
    )
    assert (measure_cosine(one, 3 * one), measure_cosine(one, -one)) == (1000, -1000)
    assert abs(measure_cosine(one, other)) < 60
    assert measure_cosine(one, 0 * one) == 0
    longest = np.full(SKETCH, 1 << 40)
    assert measure_cosine(longest, longest) == 1000


def test_nobody_is_usual_in_a_round_of_four() -> None:
    """With one left out three are too few to say what is usual."""
    rows = draw_round(3, members=4)
    rows[0] *= -10
    assert find_apart(rows) == set()


def test_a_few_long_ones_do_not_turn_the_middle_against_another() -> None:
    """Three that send the opposite of what is one member's own, as long as they may, do not make that one stand apart.

    They are cut to the median length before they say where the middle is.
    """
    draw = np.random.default_rng(8)
    common, own = np.eye(30)[0], np.eye(30)[1]
    rows = 1_000 * common + 20 * draw.normal(size=(15, 30))
    rows[0] += 200 * own
    rows[-3:] = -60_000 * own
    assert find_apart(np.asarray(np.rint(rows), np.int64)) == {12, 13, 14}


vectors = st.lists(st.integers(-CLIP // 7, CLIP // 7), min_size=40, max_size=40).map(
    lambda row: np.array(row, np.int64)
)


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(5, 14), sent=vectors, aim=st.floats(-3, 3))
def test_no_device_makes_another_stand_apart(seed: int, members: int, sent: Grid, aim: float) -> None:
    """What one member sends raises no other's score above what it is where that member is not there at all.

    Also where it aims at one: with that one's own update, turned, cut or lengthened.
    """
    rows = draw_round(seed, members, agree=0.3)
    alone = score_without(rows, 0)
    for attack in (sent, np.rint(aim * rows[1]).astype(np.int64)):
        rows[0] = attack
        assert score_without(rows, 0).tobytes() == alone.tobytes()
        found = [score.z for score in compare(rows, clip=CLIP)][1:]
        assert all(z <= max(0, round(1000 * most)) for z, most in zip(found, alone.tolist(), strict=True))


@given(seed=st.integers(0, 2**32 - 1), order=st.permutations(range(9)))
def test_scores_go_with_their_members(seed: int, order: list[int]) -> None:
    """A score is a function of the set of the members: in another order each has the same, but for its last bit."""
    rows = draw_round(seed, members=9)
    straight, shuffled = compare(rows, clip=CLIP), compare(rows[order], clip=CLIP)
    for place, score in zip(order, shuffled, strict=True):
        assert abs(score.z - straight[place].z) <= 1
        assert abs(score.cosine - straight[place].cosine) <= 1


# --- sketches ---------------------------------------------------------------------------------------------------------


def test_a_short_vector_is_its_own_sketch() -> None:
    """Up to as many elements as a sketch has columns nothing is lost, and the seed plays no part."""
    values = np.arange(-5, 6, dtype=np.int32)
    for seed in (b"a" * 32, b"b" * 32):
        assert Sketcher(seed, 11).sketch(Quanta.from_values(values), scale=SCALE_ONE).tolist() == values.tolist()


def test_sketches_keep_lengths_and_angles() -> None:
    """Of 300,000 elements lengths and cosines stay within a few hundredths, whatever stands where."""
    draw = np.random.default_rng(5)
    common = draw.normal(size=300_001) * np.where(np.arange(300_001) < 2_000, 30, 1)
    rows = [np.rint(40 * (common + draw.normal(size=common.size))).astype(np.int32) for _ in range(6)]
    sketcher = Sketcher(b"s" * 32, common.size)
    sketches = np.array([sketcher.sketch(Quanta.from_values(row), scale=SCALE_ONE) for row in rows], np.float64)
    exact = np.array(rows, np.float64)
    true, kept = exact @ exact.T, sketches @ sketches.T
    assert np.abs(true - kept).max() / np.diagonal(true).max() < 0.08
    assert sketches.shape[1] == SKETCH


def test_another_seed_gives_another_sketch() -> None:
    """Who does not know the seed cannot send what is nothing in every sketch."""
    values = np.zeros(3 * SKETCH, np.int32)
    values[[7, 7 + SKETCH]] = 1_000, -1_000
    found = {
        tuple(Sketcher(bytes([seed]) * 32, values.size).sketch(Quanta.from_values(values), scale=SCALE_ONE)[[7]])
        for seed in range(20)
    }
    assert len(found) > 1
