"""What a device does for its owner's privacy before anything leaves it: bound the update's norm.

The server clips again, exactly and on the grid; noise is added there, once for each release.
"""

from __future__ import annotations

import math

import numpy as np

from schemas.errors import FedlogError
from schemas.tensors import Floats


class NotFiniteError(FedlogError):
    """Training gave NaN or infinity; nothing is reported. A smaller learning rate usually helps."""

    code = "update_not_finite"


def clip(delta: Floats, norm: float) -> Floats:
    """`delta` scaled down to the L2 norm `norm` where it is longer. Raises NotFiniteError."""
    length = norm_of(delta)
    if not math.isfinite(length):
        raise NotFiniteError("the update holds NaN or infinity; nothing is sent. Try a smaller training.learning_rate")
    return delta if length <= norm else (delta * (norm / length)).astype(np.float32)


def norm_of(delta: Floats) -> float:
    """The L2 norm, in float64."""
    wide = delta.astype(np.float64)
    return math.sqrt(float(np.dot(wide, wide)))
