"""Error feedback: what a codec loses of one update is added to the next (Seide et al. 2014; Karimireddy et al. 2019).

    corrected = clip(delta + residual)        what should arrive
    seen      = decode(encode(corrected))     what does arrive
    residual' = corrected - seen              at most about one clip norm long

What the clip cuts off does not come back: it would pile up without bound, and pull every later update its way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from client_agent.privacy import clip
from schemas.policy import Policy
from schemas.tensors import Floats, encode_update, from_grid, read_update


@dataclass(frozen=True, slots=True)
class Compressed:
    """An update as it leaves the device, and what stays behind: shape (parameters,), or None without error feedback."""

    body: bytes
    residual: Floats | None


def compress(delta: Floats, residual: Floats | None, *, policy: Policy) -> Compressed:
    """Clip and encode `delta` with what was left over before. Raises NotFiniteError."""
    corrected = clip(delta if residual is None else delta + residual, policy.clipping.norm)
    body = encode_update(corrected, policy)
    if not policy.compression.error_feedback:
        return Compressed(body, None)
    return Compressed(body, _plus_seen(corrected, body, policy=policy, sign=-1))


def returned(residual: Floats, body: bytes, *, policy: Policy) -> Floats:
    """The residual after the update `body` was refused: all that was sent comes back to it."""
    if not policy.compression.error_feedback:
        return residual
    return _plus_seen(residual, body, policy=policy, sign=1)


def _plus_seen(vector: Floats, body: bytes, *, policy: Policy, sign: int) -> Floats:
    """`vector` and what a server sees of `body`; piece by piece, because a core's cache is quicker than its memory."""
    total, quanta = vector.copy(), read_update(body, policy, parameters=vector.size)
    for place, values, multipliers in quanta.pieces():
        # Grid units as float64: as exact, and quicker to multiply than bytes by int64.
        seen = from_grid((values * multipliers.astype(np.float64)).reshape(-1), policy.clipping)
        total[place if quanta.indices is None else quanta.indices[place]] += sign * seen
    return total
