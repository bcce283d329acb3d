"""Devices that train nothing, so that a benchmark measures the system around them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from client_agent.learning.learner import Arrays, Context
from schemas.tensors import Floats
from tests.learners import FlatLearner


class Nothing(FlatLearner):
    """A delta that was drawn once: the same floats for every device, and no cheaper to encode than any other."""

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """One addition, which is all that a device has to do here."""
        del data, context
        return {"flat": start["flat"] + make_delta(start["flat"].size)}, {}


LEARNER = f"{__name__}:{Nothing.__name__}"


@lru_cache
def make_delta(parameters: int) -> Floats:
    """What every device has learned, of shape (parameters,)."""
    return np.random.default_rng(7).normal(0, 1e-3, parameters).astype(np.float32)
