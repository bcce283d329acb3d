"""What zCDP is worth as epsilon.

All releases that a device is part of are together one Gaussian mechanism, whatever their noise multipliers: of p_i at
z_i, 1/z^2 = sum of p_i/z_i^2 = 2 rho (Dong, Roth and Su 2022, corollary 3.3). Its epsilon at a given delta is exact
(Balle and Wang 2018).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any


def epsilon(rho: Fraction, *, delta: float) -> float:
    """Exact epsilon at `delta`; 0 where nothing was spent."""
    # A multiplier of 1 / sqrt(0) has no meaning; nothing was released, so nothing was lost.
    if rho == 0:
        return 0.0
    return float(load().get_epsilon_gaussian(1 / math.sqrt(2 * rho), delta))


def load() -> Any:
    """The library, which takes a second to import; who decides loads it first, because a decision reads no file."""
    # Not on top: whoever only folds a ledger, as every replay does, computes no epsilon.
    import dp_accounting  # noqa: PLC0415

    return dp_accounting
