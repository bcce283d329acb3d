"""The release of a question: from the exact sum of a round to named statistics, in their own units.

A device sends each element as a share of its bound (`client_agent.learning.measuring`), so that one norm and one grid
serve statistics of any size. Elementwise float64, rounded once (law 6), and from this round's sum alone: no version
depends on the one before.
"""

from __future__ import annotations

import numpy as np

from actors.deciders.arithmetic.optimizers import Doubles
from schemas.policy import WEIGHT_ONE, Measure, Policy
from schemas.tensors import Floats, Grid


def release(total: Grid, policy: Policy, *, members: int) -> Floats:
    """The sum over the devices or their mean, float32 of shape (parameters,), in the order of the policy."""
    assert policy.measure is not None
    # The grid first, then the number of devices, then the bounds: another order rounds differently.
    shares = np.multiply(total, policy.clipping.step / WEIGHT_ONE, dtype=np.float64)
    if policy.measure.release == "mean":
        shares /= members
    shares *= spread_bounds(policy.measure)
    return shares.astype(np.float32)


def spread_bounds(measure: Measure) -> Doubles:
    """The bound of each element of the vector, shape (parameters,)."""
    statistics = measure.statistics.values()
    sizes = [int(np.prod(statistic.shape, dtype=np.int64)) for statistic in statistics]
    return np.repeat(np.array([statistic.bound for statistic in statistics], np.float64), sizes)
