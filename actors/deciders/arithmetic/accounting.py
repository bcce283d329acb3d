"""What releases cost: zCDP per device, and the epsilon that follows from it.

A device whose updates are in p releases of noise multiplier z has spent rho = p / (2 z^2) (Bun and Steinke 2016,
proposition 1.6). Its releases together are one Gaussian mechanism of multiplier z / sqrt(p), whose epsilon at a given
delta is exact (Balle and Wang 2018).
"""

from __future__ import annotations

import math

import dp_accounting


def rho(participations: int, noise_multiplier: float) -> float:
    """The zCDP of `participations` Gaussian releases."""
    return participations / (2 * noise_multiplier**2)


def epsilon(participations: int, noise_multiplier: float, *, delta: float) -> float:
    """Exact epsilon at `delta`; 0 for no participation."""
    # A multiplier of z / sqrt(0) has no meaning; nothing was released, so nothing was lost.
    if participations == 0:
        return 0.0
    return float(dp_accounting.get_epsilon_gaussian(noise_multiplier / math.sqrt(participations), delta))
