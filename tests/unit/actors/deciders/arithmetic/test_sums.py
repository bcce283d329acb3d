"""Integer sums (law 6): exact, and the same in any order, on any machine, in any number of shards."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.deciders.arithmetic.noise import ladder, make_table
from actors.deciders.arithmetic.sums import PARTS, RunningSum, sum_digest
from schemas.policy import NOISE_TAIL_SIGMAS, WEIGHT_ONE
from schemas.tensors import BLOCK, Quanta
from schemas.tensors.clipping import SCALE_ONE, clip_scale, compute_squared_norm
from tests.judges import slow_sums
from tests.worlds.builders import policy

STEPS = 1 << 16
ELEMENTS = st.integers(-2 * STEPS, 2 * STEPS)
GRIDS = st.lists(ELEMENTS, min_size=5, max_size=5).map(lambda values: np.array(values, np.int64))
WEIGHTED = st.lists(st.tuples(GRIDS, st.integers(0, WEIGHT_ONE)), min_size=1, max_size=8)


def _sum(updates: list[tuple[np.ndarray, int]]) -> np.ndarray:
    running = RunningSum(5)
    for grid, weight in updates:
        quanta = Quanta.from_values(grid)
        running.add(quanta, weight=weight, scale=clip_scale(quanta, STEPS))
    return running.total()


@given(updates=WEIGHTED, data=st.data())
def test_the_order_of_arrival_changes_no_bit(updates: list[tuple[np.ndarray, int]], data: st.DataObject) -> None:
    """The same updates in any order give the same bytes."""
    shuffled = data.draw(st.permutations(updates))
    assert _sum(updates).tobytes() == _sum(shuffled).tobytes()
    assert sum_digest(_sum(updates)) == sum_digest(_sum(shuffled))


@given(updates=WEIGHTED, data=st.data())
def test_sharding_changes_no_bit(updates: list[tuple[np.ndarray, int]], data: st.DataObject) -> None:
    """However the devices are split over shards, the shards' sums add up to the same bytes."""
    shards: dict[int, list[tuple[np.ndarray, int]]] = {}
    for update in updates:
        shards.setdefault(data.draw(st.integers(0, 3)), []).append(update)
    assert sum(_sum(shard) for shard in shards.values()).tobytes() == _sum(updates).tobytes()


@given(updates=WEIGHTED)
def test_the_sum_is_exact(updates: list[tuple[np.ndarray, int]]) -> None:
    """The sum is the law's formula, one update at a time, clipping included."""
    expected = [0] * 5
    for grid, weight in updates:
        cut = slow_sums.clipped(grid, slow_sums.clip_scale(grid, STEPS)).tolist()
        expected = [before + weight * value for before, value in zip(expected, cut, strict=True)]
    assert _sum(updates).tolist() == expected


@given(
    seed=st.integers(0, 2**32),
    size=st.sampled_from([1, 1023, 4096, 4097, 5 * 4096, 1 << 16, (1 << 16) + 1, 300_001]),
    steps=st.sampled_from([16, 1 << 8, STEPS, 1 << 20]),
    weight=st.sampled_from([0, 1, 741_455, WEIGHT_ONE, 1 << 40]),
    sparse=st.booleans(),
)
def test_small_numbers_give_the_bits_of_large_ones(seed: int, size: int, steps: int, weight: int, sparse: bool) -> None:
    """However an update is held and in whatever pieces it is taken: norm, clip scale and sum are those of the law."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-128, 128, size).astype(np.int8)
    multipliers = rng.integers(0, 2 * steps // 128 + 1, -(-size // BLOCK))
    indices = np.sort(rng.permutation(2 * size)[:size]) if sparse else None
    quanta = Quanta(2 * size if sparse else size, values, multipliers, indices)
    grid = quanta.grid()
    dense = np.zeros(quanta.parameters, np.int64)
    dense[slice(None) if indices is None else indices] = values * np.repeat(multipliers, BLOCK)[:size]
    assert np.array_equal(grid, dense)
    assert quanta.largest() == np.abs(grid).max()
    assert (
        compute_squared_norm(quanta)
        == compute_squared_norm(Quanta.from_values(grid))
        == slow_sums.compute_squared_norm(grid)
    )
    scale = clip_scale(quanta, steps)
    assert scale == slow_sums.clip_scale(grid, steps)
    for tried in (scale, SCALE_ONE, SCALE_ONE - 1, 1):
        running = RunningSum(quanta.parameters)
        running.add(quanta, weight=weight, scale=tried)
        assert np.array_equal(running.total(), weight * slow_sums.clipped(grid, tried))


def test_no_number_of_updates_or_weights_overflows_a_part() -> None:
    """The largest elements that pass, often, and more weights than are kept apart, in turn: the sum stays exact."""
    running, grid = RunningSum(2), np.array([1 << 21, -(1 << 21)], np.int64)
    for turn in range(2_500):
        running.add(Quanta.from_values(grid), weight=1, scale=SCALE_ONE)
        if turn % 100 == 0:
            for weight in range(2, 9):
                running.add(Quanta.from_values(grid), weight=weight, scale=SCALE_ONE)
                assert len(running._parts) <= PARTS
    assert running.total().tolist() == ((2_500 + 25 * sum(range(2, 9))) * grid).tolist()
    assert running.total().tolist() == running.total().tolist()


def test_the_largest_sum_of_an_accepted_policy_fits() -> None:
    """The largest vectors and weights that an accepted policy allows stay below 2^63."""
    rules = policy(
        aggregation={"updates_per_round": 7, "samples_max": 1 << 20, "normalisation": "weight"},
        clipping={"steps": 1 << 20},
    )
    running = RunningSum(1)
    for _ in range(7):
        grid = Quanta.from_values(np.array([2 << 20], np.int64))
        running.add(grid, weight=rules.weight_max, scale=clip_scale(grid, rules.clipping.steps))
    assert int(running.total()[0]) == 7 << 60


@pytest.mark.parametrize("sigma", [1, 16, 4095, 4579, 4580, 5000, 1 << 36, (1 << 36) + 1, (1 << 22) + 1, 1 << 46])
def test_no_noise_is_beyond_the_tail_that_a_policy_counts(sigma: int) -> None:
    """The furthest value that can be drawn at all is within the tail that the overflow rule counts."""
    largest = sum(-make_table(variance).lowest << 9 * rung for rung, variance in enumerate(ladder(sigma)))
    assert largest <= NOISE_TAIL_SIGMAS * sigma


def test_the_digest_is_over_little_endian_bytes() -> None:
    """A machine of either byte order names a sum alike."""
    total = np.array([1, -2, 1 << 40], np.int64)
    expected = hashlib.sha256(b"".join(int(value).to_bytes(8, "little", signed=True) for value in total)).digest()
    assert sum_digest(total) == sum_digest(total.astype(">i8")) == expected
