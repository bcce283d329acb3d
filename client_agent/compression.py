"""What happens to a trained update before it leaves the device: its norm is bounded, then it is compressed.

`Device` calls `protect` and `compress`; the outbox calls `restore` when the server refuses an update. What a codec
loses of one update is added to the next (error feedback; Seide et al. 2014, Karimireddy et al. 2019):

    protected = clip(delta + residual)         what should arrive
    received  = decode(encode(protected))      what does arrive
    residual' = protected - received           at most about one clip norm long

What the clip cuts off does not come back: it would grow without bound, and bias every later update. The server clips
again, exactly and on its grid; noise is added there, once a release.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import structlog

from schemas.errors import FedlogError
from schemas.policy import Policy
from schemas.policy.metrics import (
    METRIC_ONE,
    Fidelity,
    list_noised_reports,
    list_report_scales,
    measure_report,
    to_fixed,
)
from schemas.tensors import Floats, Quanta, encode_update, from_grid, read_back, read_update

_AT_ONCE = 1 << 13

logger = structlog.get_logger(__name__)


class NotFiniteError(FedlogError):
    """Training gave NaN or infinity; nothing is reported. A smaller learning rate usually helps."""

    code = "update_not_finite"


@dataclass(frozen=True, slots=True)
class Compressed:
    """An update as it leaves the device, and what stays behind: shape (parameters,), or None without error feedback.

    `quanta` is what a reader of the body gets, where that was needed here too.
    """

    body: bytes
    residual: Floats | None
    quanta: Quanta | None = None


def protect(delta: Floats, residual: Floats | None, *, norm: float) -> Floats:
    """`delta` with what earlier updates left over, at most `norm` long. Raises NotFiniteError."""
    return clip(add_residual(delta, residual), norm)


def add_residual(delta: Floats, residual: Floats | None) -> Floats:
    """`delta` with what earlier updates left over."""
    # A residual of another size belongs to another model, after a task or a trainer has changed under this name.
    return delta if residual is None or residual.size != delta.size else delta + residual


def clip(delta: Floats, norm: float) -> Floats:
    """`delta` scaled down to the L2 norm `norm` where it is longer. Raises NotFiniteError."""
    length = measure_norm(delta)
    if not math.isfinite(length):
        raise NotFiniteError("the update holds NaN or infinity; nothing is sent. Try a smaller training.learning_rate")
    # Never scaled up: the norm bounds what one device can change, it is no target.
    return delta if length <= norm else (delta * (norm / length)).astype(np.float32, copy=False)


def clip_update(whole: Floats, metrics: dict[str, float], *, policy: Policy) -> Floats:
    """What training changed, and behind it what is reported, together at most the clip long.

    Each has its own part of the norm, so that no metric is cut with a long update. Raises NotFiniteError.
    """
    names, norm = list_noised_reports(policy), policy.clipping.norm
    if not names:
        return clip(whole, norm)
    left = math.sqrt(norm**2 - measure_report(policy) ** 2)
    return np.concatenate([clip(whole, left), _scale_reports(names, metrics, policy=policy)])


def _scale_reports(names: tuple[str, ...], metrics: dict[str, float], *, policy: Policy) -> Floats:
    if missing := [name for name in names if name not in metrics]:
        logger.warning("metrics_missing", missing=missing, given=sorted(metrics), counted_as=0)
    bounds = policy.evaluation.report_bounds or {}
    cut = [_cut(metrics.get(name, 0.0), bounds[name]) for name in names]
    return np.array([value * scale for value, scale in zip(cut, list_report_scales(policy), strict=True)], np.float32)


def _cut(value: float, bound: float) -> float:
    # No number is the worst that can be told, as it is where metrics are in the open.
    return bound if math.isnan(value) else max(-bound, min(bound, value))


def measure_norm(delta: Floats) -> float:
    """The L2 norm, in float64."""
    total = 0.0
    # In short pieces: a longer product is spread over all cores, whose threads go on spinning once it is there.
    for start in range(0, delta.size, _AT_ONCE):
        # The sum of a million squares needs more digits than float32 has.
        wide = delta[start : start + _AT_ONCE].astype(np.float64)
        total += float(np.dot(wide, wide))
    return math.sqrt(total)


def compress(protected: Floats, *, policy: Policy) -> Compressed:
    """Encode a protected update by the policy's codec."""
    body = encode_update(protected, policy)
    if not policy.compression.error_feedback and not policy.is_masked:
        return Compressed(body, None)
    quanta = read_back(protected, body, policy=policy)
    residual = _add(protected, quanta, policy=policy, sign=-1) if policy.compression.error_feedback else None
    return Compressed(body, residual, quanta)


def measure_fidelity(whole: Floats, protected: Floats, *, sent: Compressed, policy: Policy) -> Fidelity:
    """What clip and codec have left of `whole`, which is what training changed, with what earlier updates left over."""
    left = sent.residual
    if left is None:
        left = _add(protected, sent.quanta or read_back(protected, sent.body, policy=policy), policy=policy, sign=-1)
    length, arriving = measure_norm(whole), measure_norm(protected)
    # Rounded down, so that whatever was clipped is below one, however little that was.
    kept = METRIC_ONE if protected is whole else min(METRIC_ONE - 1, math.floor(arriving / length * METRIC_ONE))
    return Fidelity(kept=kept, lost=to_fixed(measure_norm(left) / arriving) if arriving else 0)


def restore(residual: Floats, body: bytes, *, policy: Policy) -> Floats:
    """The residual after the update `body` was refused: everything that was sent returns to it."""
    # Without error feedback nothing is carried over, not even what was refused.
    if not policy.compression.error_feedback:
        return residual
    return _add(residual, read_update(body, policy, parameters=residual.size), policy=policy, sign=1)


def _add(vector: Floats, quanta: Quanta, *, policy: Policy, sign: int) -> Floats:
    """`vector` plus or minus what the server decodes."""
    total = np.empty_like(vector) if quanta.indices is None else vector.copy()
    combine = np.add if sign > 0 else np.subtract
    # Piece by piece, because a core's cache is faster than its memory.
    for place, values, multipliers in quanta.pieces():
        # Grid units as float64: as exact, and faster to multiply than bytes by int64.
        received = from_grid((values * multipliers.astype(np.float64)).reshape(-1), policy.clipping)
        at = place if quanta.indices is None else quanta.indices[place]
        total[at] = combine(vector[at], received)
    return total
