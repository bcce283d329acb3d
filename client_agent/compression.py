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
from schemas.tensors import Floats, decode_update, encode_update, from_grid


@dataclass(frozen=True, slots=True)
class Compressed:
    """An update as it leaves the device, and what stays behind; vectors of shape (parameters,)."""

    body: bytes
    seen: Floats
    residual: Floats


def compress(delta: Floats, residual: Floats | None, *, policy: Policy) -> Compressed:
    """Clip and encode `delta` with what was left over before. Raises NotFiniteError."""
    corrected = clip(delta if residual is None else delta + residual, policy.clipping.norm)
    body = encode_update(corrected, policy)
    seen = _seen(body, policy, parameters=corrected.size)
    kept = corrected - seen if policy.compression.error_feedback else np.zeros_like(corrected)
    return Compressed(body, seen, kept)


def returned(residual: Floats, body: bytes, *, policy: Policy) -> Floats:
    """The residual after the update `body` was refused: all that was sent comes back to it."""
    if not policy.compression.error_feedback:
        return residual
    return residual + _seen(body, policy, parameters=residual.size)


def _seen(body: bytes, policy: Policy, *, parameters: int) -> Floats:
    return from_grid(decode_update(body, policy, parameters=parameters), policy.clipping)
