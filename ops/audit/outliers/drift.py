"""How far what devices have has moved: a histogram of a measure task beside an earlier one, or beside another task's.

Called by `fedlog drift`. The unit is a device, as in privacy: its examples are alike, so that chance is judged by how
many devices answered, and not by how many examples they have.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.errors import EXIT_USAGE, FedlogError

Counts = npt.NDArray[np.float64]
# Together at most one alarm in twenty is chance: half of that for each of the two distances.
_NORMAL_QUANTILE = 1.959964  # of 0.975
_KOLMOGOROV_QUANTILE = 1.480207  # of 0.975
# What is put into each bin, in devices: an empty one would make the PSI infinite.
_SMOOTHING = 0.5


class Incommensurable(FedlogError):
    """Two histograms cannot be compared; the message says why."""

    exit_code = EXIT_USAGE
    code = "incommensurable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """From which distance on it is drift: 0.2 for the PSI is the usual rule, the KS distance is a share of examples."""

    psi: float = 0.2
    ks: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts by bin, of shape (bins,), and how many devices they are of."""

    counts: Counts
    devices: int

    @property
    def shares(self) -> Counts:
        """What share of the examples is in each bin. Noise may have left a count below zero, which is none."""
        counts = np.maximum(self.counts, 0.0)
        if (whole := float(counts.sum())) <= 0:
            raise Incommensurable("A histogram without a single example has no shares: ask for another column.")
        return np.asarray(counts / whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Two distances, from where on each is more than chance, and whether one has crossed its bound as well."""

    psi: float
    ks: float
    psi_by_chance: float
    ks_by_chance: float
    is_drift: bool

    def to_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return asdict(self)


def compute_psi(reference: Histogram, now: Histogram) -> float:
    """The population stability index, sum of (p - q) ln(p / q) over bins, with half a device more in each."""
    p, q = (_smooth(each) for each in (reference, now))
    return float(((q - p) * np.log(q / p)).sum())


def compute_ks(reference: Histogram, now: Histogram) -> float:
    """The Kolmogorov-Smirnov distance: the largest difference of the shares up to any bin."""
    return float(np.abs(np.cumsum(now.shares - reference.shares)).max())


def judge(reference: Histogram, now: Histogram, *, bounds: Bounds) -> Drift:
    """Whether `now` has drifted: a distance is above its bound, and above what chance gives. Raises Incommensurable."""
    if reference.counts.shape != now.counts.shape or reference.counts.ndim != 1:
        shapes = f"{list(reference.counts.shape)} and {list(now.counts.shape)}"
        raise Incommensurable(f"Histograms of shapes {shapes}: both need the same bins.")
    # Both, because each misses what the other finds: a moved tail, and a small move of everything.
    psi, ks = compute_psi(reference, now), compute_ks(reference, now)
    # What two samples of so many devices of one population differ by (Yurdakul 2018; Smirnov 1948).
    spread = 1 / reference.devices + 1 / now.devices
    psi_by_chance = find_chi_square_quantile(reference.counts.size - 1) * spread
    ks_by_chance = _KOLMOGOROV_QUANTILE * math.sqrt(spread)
    is_drift = psi >= max(bounds.psi, psi_by_chance) or ks >= max(bounds.ks, ks_by_chance)
    return Drift(psi=psi, ks=ks, psi_by_chance=psi_by_chance, ks_by_chance=ks_by_chance, is_drift=is_drift)


def find_chi_square_quantile(freedom: int) -> float:
    """That of 0.975 of the chi-square distribution, to two hundredths (Wilson and Hilferty, 1931)."""
    part = 2 / (9 * max(1, freedom))
    return freedom * (1 - part + _NORMAL_QUANTILE * math.sqrt(part)) ** 3


def _smooth(one: Histogram) -> Counts:
    # In devices and not in examples, so that the same share weighs more where more have answered.
    devices = one.shares * one.devices + _SMOOTHING
    return np.asarray(devices / devices.sum())
