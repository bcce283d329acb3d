"""The arithmetic of law 6 as it is written: every element an int64 from the first step on, one update at a time.

The product keeps an update small and takes it in pieces; whatever it does must give these very bits.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import numpy as np

from schemas.policy import Policy
from schemas.tensors import BLOCK, BodyError, Grid, decompress, payload_bytes, to_grid


def decoded(data: bytes, policy: Policy, *, parameters: int) -> Grid:
    """Grid units of every element. Raises BodyError."""
    compression, clipping = policy.compression, policy.clipping
    payload = decompress(data, payload_bytes(compression, parameters))
    match compression.codec:
        case "float32":
            delta = np.frombuffer(payload, "<f4")
            if not np.isfinite(delta).all():
                raise BodyError("not_finite", "NaN or infinity")
            if float(np.abs(delta).max()) > 2.0 * clipping.norm:
                raise BodyError("out_of_grid", "an element beyond twice the clip")
            return to_grid(delta, clipping)
        case "float16":
            delta = np.frombuffer(payload, "<f2").astype(np.float64)
            if not np.isfinite(delta).all():
                raise BodyError("not_finite", "NaN or infinity")
            if np.abs(delta).max() > 2.0:
                raise BodyError("out_of_grid", "an element beyond twice the clip")
            return np.rint(delta / (1.0 / clipping.steps)).astype(np.int64)
        case "int4":
            grid = _halves(payload, parameters=parameters)
        case "int8":
            split = len(payload) - parameters
            multipliers = np.frombuffer(payload[:split], "<u4").astype(np.int64)
            grid = np.frombuffer(payload[split:], "<i1").astype(np.int64)
            grid *= np.repeat(multipliers, BLOCK)[:parameters]
        case _:
            grid = _spread(payload, parameters=parameters)
    if max(int(grid.max()), -int(grid.min())) > 2 * clipping.steps:
        raise BodyError("out_of_grid", "an element beyond twice the clip")
    return grid


def _halves(payload: bytes, *, parameters: int) -> Grid:
    split = len(payload) - -(-parameters // 2)
    halves = [byte & 15 for byte in payload[split:]] + [byte >> 4 for byte in payload[split:]]
    if any(halves[parameters:]):
        raise BodyError("body_malformed", "half a byte too much is not zero")
    grid = np.array([half - 16 * (half > 7) for half in halves[:parameters]], np.int64)
    return grid * np.repeat(np.frombuffer(payload[:split], "<u4").astype(np.int64), BLOCK)[:parameters]


def _spread(payload: bytes, *, parameters: int) -> Grid:
    kept = (len(payload) - 4) // 5
    gaps = np.frombuffer(payload[4 : 4 + 4 * kept], "<u4").astype(np.int64)
    indices = np.cumsum(gaps)
    if (gaps[1:] == 0).any() or int(indices[-1]) >= parameters:
        raise BodyError("body_malformed", "indices do not ascend within the parameters")
    grid = np.zeros(parameters, np.int64)
    grid[indices] = np.frombuffer(payload[4 + 4 * kept :], "<i1").astype(np.int64) * int.from_bytes(
        payload[:4], "little"
    )
    return grid


def compute_squared_norm(grid: Grid) -> int:
    """In Python's own integers."""
    return sum(value * value for value in grid.tolist())


def clip_scale(grid: Grid, steps: int) -> int:
    """c = min(2^16, isqrt(floor(2^32 C^2 / |q|^2)))."""
    norm2 = compute_squared_norm(grid)
    return min(1 << 16, isqrt((steps * steps << 32) // norm2)) if norm2 else 1 << 16


def clipped(grid: Grid, scale: int) -> Grid:
    """sign(q) floor(c |q| / 2^16), where c < 2^16."""
    shrunk: Any = np.sign(grid) * (np.abs(grid) * scale >> 16)
    return grid if scale == 1 << 16 else shrunk
