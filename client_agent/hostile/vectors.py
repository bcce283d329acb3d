"""What attackers make of updates: formulas over float64 vectors of shape (parameters,), as differences of a model.

Papers write them for gradients; a difference points the other way, which turns the sign of all of them alike.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def flip_sign(own: Vector, strength: float) -> Vector:
    """-strength * own (sign flipping; Li et al., AAAI 2019)."""
    return -strength * own


def scale(own: Vector, strength: float) -> Vector:
    """strength * own (model replacement; Bagdasaryan et al., AISTATS 2020)."""
    return strength * own


def draw_noise(size: int, sigma: float, *, seed: int) -> Vector:
    """N(0, sigma^2) each (Gaussian; Blanchard et al., NeurIPS 2017); with 0 nothing, as a plain free-rider sends."""
    return sigma * np.random.default_rng(seed).standard_normal(size)


def hide_a_little(known: npt.NDArray[np.float64], z: float) -> Vector:
    """mean + z * deviation of each coordinate, over `known` of shape (n, parameters) (ALIE; Baruch et al., 2019).

    The deviation is that of the n as all there are, divided by n.
    """
    return np.asarray(known.mean(axis=0) + z * known.std(axis=0))


def invert_mean(known: npt.NDArray[np.float64], epsilon: float) -> Vector:
    """-epsilon * mean over `known` of shape (n, parameters) (inner product manipulation; Xie et al., UAI 2019)."""
    return np.asarray(-epsilon * known.mean(axis=0))
