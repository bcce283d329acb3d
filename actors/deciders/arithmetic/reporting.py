"""What devices report under privacy: the last elements of the vector, in the noise of its release.

A device sends each metric as a share of its bound, short enough that the clip never cuts it
(`client_agent.compression`), so that one mechanism pays for the update and for what is told beside it. Elementwise
float64, rounded once (law 6), and from this round's sum alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from schemas.events import RoundProposed
from schemas.policy import Policy
from schemas.policy.metrics import METRIC_ONE, MetricSums, list_noised_reports, list_report_scales
from schemas.tensors import Floats, Grid


class Told(NamedTuple):
    """The means of the reported metrics, float32 of shape (metrics,), and the same as sums over the members."""

    values: Floats
    sums: MetricSums


def cut_vector(total: Grid, policy: Policy) -> tuple[Grid, Grid]:
    """The sum of what trains or is averaged, and that of what is reported."""
    model = total.size - len(list_noised_reports(policy))
    return total[:model], total[model:]


def release_reported(total: Grid, policy: Policy, *, proposed: RoundProposed) -> Told:
    """The weighted mean over the members of what they report, from its sum with the noise on it.

    The weights follow from staleness alone, so that their sum says nothing of anybody's data, and may divide.
    """
    means = np.multiply(total, policy.clipping.step / proposed.weight_sum, dtype=np.float64)
    means /= np.array(list_report_scales(policy), np.float64)
    # As others are told: in multiples of 2^-16, added up over the examples, of which each device is one here.
    sums = tuple(round(float(mean) * proposed.members * METRIC_ONE) for mean in means)
    return Told(means.astype(np.float32), MetricSums(sums=sums, samples=proposed.members))
