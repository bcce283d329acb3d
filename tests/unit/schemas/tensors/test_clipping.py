"""The clip of law 6: exact norms, never beyond the clip, the same for both signs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tensors import Quanta
from schemas.tensors.clipping import SCALE_ONE, clip, clip_scale, compute_squared_norm
from tests.judges import slow_sums

STEPS = 1 << 16
GRIDS = st.lists(st.integers(-2 * STEPS, 2 * STEPS), min_size=5, max_size=5).map(
    lambda values: np.array(values, np.int64)
)


@given(grid=GRIDS, steps=st.integers(16, 1 << 16))
def test_every_element_is_that_of_the_law(grid: np.ndarray, steps: int) -> None:
    """Scale and elements are the law's formula, one element at a time in whole numbers."""
    quanta = Quanta.from_values(grid)
    scale = clip_scale(quanta, steps)
    assert scale == slow_sums.clip_scale(grid, steps)
    assert clip(quanta, scale).tolist() == slow_sums.clipped(grid, scale).tolist()


@given(grid=GRIDS, steps=st.integers(16, 1 << 16))
def test_no_norm_is_above_the_clip(grid: np.ndarray, steps: int) -> None:
    """After clipping the exact norm is at most C, and a vector within C is not touched."""
    quanta = Quanta.from_values(grid)
    cut = clip(quanta, clip_scale(quanta, steps))
    assert sum(int(value) ** 2 for value in cut) <= steps * steps
    if sum(int(value) ** 2 for value in grid) <= steps * steps:
        assert cut.tolist() == grid.tolist()


@given(grid=GRIDS)
def test_clipping_never_turns_a_sign_or_grows(grid: np.ndarray) -> None:
    """Rounding is towards zero for both signs alike."""
    scale = clip_scale(Quanta.from_values(grid), 100)
    cut = clip(Quanta.from_values(grid), scale)
    assert (np.abs(cut) <= np.abs(grid)).all()
    assert (np.sign(cut) * np.sign(grid) >= 0).all()
    assert np.array_equal(clip(Quanta.from_values(-grid), scale), -cut)


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 600_000])
def test_the_squared_norm_is_exact(size: int) -> None:
    """No element count and no element within 2^21 overflows the norm."""
    grid = np.full(size, -(1 << 21), np.int64)
    assert compute_squared_norm(Quanta.from_values(grid)) == size * (1 << 42)


@given(values=st.lists(st.integers(-(1 << 21), 1 << 21), max_size=50))
def test_the_squared_norm_is_that_of_python_integers(values: list[int]) -> None:
    """The norm that clipping rests on is exact, not rounded."""
    assert compute_squared_norm(Quanta.from_values(np.array(values, np.int64))) == sum(
        value * value for value in values
    )


def test_a_zero_vector_has_scale_one() -> None:
    """Nothing is divided by a norm of zero."""
    assert clip_scale(Quanta.from_values(np.zeros(3, np.int64)), STEPS) == SCALE_ONE
