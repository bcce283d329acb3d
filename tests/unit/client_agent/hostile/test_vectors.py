"""The formulas of attacks on updates, beside plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from client_agent.hostile import vectors

Known = npt.NDArray[np.float64]
KNOWN = arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-9, 9))


@given(KNOWN, st.floats(0, 3))
def test_what_a_ring_sends_is_its_papers(known: Known, strength: float) -> None:
    """Guarantee: ALIE is the mean and z deviations of each coordinate, IPM the mean times -epsilon."""
    little, inverted = vectors.hide_a_little(known, strength), vectors.invert_mean(known, strength)
    for place, column in enumerate(known.T):
        mean = math.fsum(column) / len(column)
        deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in column) / len(column))
        assert little[place] == pytest.approx(mean + strength * deviation, abs=1e-9)
        assert inverted[place] == pytest.approx(-strength * mean, abs=1e-9)


def test_a_flip_points_the_other_way() -> None:
    """Guarantee: a flipped update is the honest one negated, a scaled one the same way."""
    own = np.array([1.0, -2.0])
    assert vectors.flip_sign(own, 3.0).tolist() == [-3.0, 6.0]
    assert vectors.scale(own, 3.0).tolist() == [3.0, -6.0]


def test_noise_is_the_seeds() -> None:
    """Guarantee: noise is the same again from its seed, as wide as asked for, and without width nothing."""
    drawn = vectors.draw_noise(4_000, 2.0, seed=7)
    assert (drawn == vectors.draw_noise(4_000, 2.0, seed=7)).all()
    assert not (drawn == vectors.draw_noise(4_000, 2.0, seed=8)).any()
    assert 1.9 < drawn.std() < 2.1
    assert not vectors.draw_noise(3, 0.0, seed=7).any()
