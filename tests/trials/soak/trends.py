"""Whether a figure grows: one slope over all lives of a process, robust, with bounds on where the true one lies.

The slope is the median of those between any two points of one life (Theil 1950, Sen 1968), so that a spike, a full
collection or a step of a pool moves it little; its bounds follow Kendall's statistic, and are wider where one point
follows from the one before (Hamed and Rao 1998).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

# What a process does first is to import and to fill its pools.
WARM_UP_S = 90.0
# The median of so long is one point: what lasts shorter is work, and no trend.
BIN_S = 15.0
POINTS_MIN = 6  # of a life that says something
_Z = 2.576  # 99 % of a normal distribution lie within

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Growth per hour: `slope`, and the bounds between which it lies with 99 %; over `hours` in `lives`."""

    slope: float
    low: float
    high: float
    hours: float
    lives: int

    def judge(self, bound: float) -> str:
        """`grows` where it certainly does by more than the bound, `steady` where it certainly does not."""
        if self.low > bound:
            return "grows"
        return "steady" if self.high <= bound else "undecided"


def find_trend(lives: Iterable[Points], *, warm_up_s: float = WARM_UP_S) -> Trend | None:
    """The trend over lives, each a list of seconds since its begin and value; None where none is long enough."""
    series = [found for life in lives if len(found := _bin(life, warm_up_s)) >= POINTS_MIN]
    if not series:
        return None
    slopes = np.sort(np.concatenate([_list_slopes(found) for found in series]))
    slope = float(np.median(slopes))
    variance = sum(_vary(found, slope) for found in series)
    reach = _Z * sqrt(variance)
    low, high = (slopes.size - reach) / 2, (slopes.size + reach) / 2
    return Trend(
        slope=slope * 3600,
        low=float(slopes[max(0, int(low))]) * 3600,
        high=float(slopes[min(slopes.size - 1, int(high))]) * 3600,
        hours=sum(found[-1, 0] - found[0, 0] for found in series) / 3600,
        lives=len(series),
    )


def _bin(life: Points, warm_up_s: float) -> np.ndarray:
    bins: dict[int, list[tuple[float, float]]] = {}
    for at_s, value in life:
        if at_s >= warm_up_s:
            bins.setdefault(int(at_s // BIN_S), []).append((at_s, value))
    return np.array([np.median(np.array(found), axis=0) for _, found in sorted(bins.items())]).reshape(-1, 2)


def _list_slopes(points: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(points), k=1)
    return (points[second, 1] - points[first, 1]) / (points[second, 0] - points[first, 0])


def _vary(points: np.ndarray, slope: float) -> float:
    """The variance of Kendall's statistic of one life."""
    count = len(points)
    rest = points[:, 1] - slope * points[:, 0]
    rest = rest - rest.mean()
    spread = float(rest @ rest)
    follows = float(rest[1:] @ rest[:-1]) / spread if spread > 0 else 0.0
    # Points that follow each other say less than as many that do not; below nothing they are taken for independent.
    follows = min(max(follows, 0.0), 0.9)
    return count * (count - 1) * (2 * count + 5) / 18 * (1 + follows) / (1 - follows)
