"""A learner's state comes back as it was, and what cannot be kept is told."""

from __future__ import annotations

import numpy as np
import pytest

from client_agent.learning.foreign import LearnerError
from client_agent.learning.state import decode_state, encode_state


def test_a_state_comes_back() -> None:
    """Arrays of any number type and shape, numbers, texts, bytes, and lists and dictionaries of these."""
    state = {
        "c": np.arange(6, dtype=np.float64).reshape(2, 3)[:, ::2],
        "half": np.zeros((), np.float16),
        "counts": {"seen": np.int64(3), "names": ["a", b"b", 1.5, None, True]},
    }
    found = decode_state(encode_state(state))
    np.testing.assert_array_equal(found["c"], state["c"])
    assert (found["c"].dtype, found["half"].dtype, found["half"].shape) == (np.float64, np.float16, ())
    assert found["counts"]["names"] == ["a", b"b", 1.5, None, True]
    assert found["counts"]["seen"] == 3
    found["c"][0, 0] = 9


@pytest.mark.parametrize("value", [object(), np.array([object()]), {1, 2}.__iter__(), 1 << 70])
def test_what_cannot_be_kept_is_told(value: object) -> None:
    """The message says what a state may hold."""
    with pytest.raises(LearnerError, match="cannot be kept"):
        encode_state({"x": value})
