"""A model that learns something else together is trained alone."""

from __future__ import annotations

import numpy as np
import pytest

from client_agent.learning.pytorch.lockstep.rehearsal import TOLERANCE, find_difference

START = {"a": np.zeros(3, np.float32), "b": np.ones((2, 2), np.float32)}
EXPECTED = {name: array + np.float32(0.5) for name, array in START.items()}


@pytest.mark.parametrize(
    ("share", "is_same"), [(0.0, True), (TOLERANCE / 2, True), (TOLERANCE * 2, False), (1.0, False)]
)
def test_what_is_learned_together_is_compared_with_what_is_learned_alone(share: float, is_same: bool) -> None:
    """Guarantee: more than rounding apart, as a share of what is learned, is told with the distance."""
    found = {name: array + np.float32(0.5 * (1 + share)) for name, array in START.items()}
    told = find_difference(START, expected=EXPECTED, found=found)
    assert (told == "") is is_same
    assert is_same or "apart" in told
