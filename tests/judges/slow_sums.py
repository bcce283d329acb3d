"""The arithmetic of law 6 as it is written: every element an int64 from the first step on, one update at a time.

The product keeps an update small and takes it in pieces; whatever it does must give these very bits.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor, isqrt
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


# --- robust rules, in Python's own integers and fractions; members in the order of their update ids -----------------


def combined(policy: Policy, vectors: list[list[int]], weights: list[int]) -> list[int]:
    """What a round gives by the policy's rule: a location times the sum of the weights."""
    robust, whole = policy.withstood_by, sum(weights)
    columns = [sorted(zip(column, weights, strict=True)) for column in zip(*vectors, strict=True)]
    match policy.aggregation.rule:
        case "mean":
            return [sum(value * weight for value, weight in column) for column in columns]
        case "median":
            return [floor(_middle(column, whole) * whole) for column in columns]
        case "trimmed_mean":
            cut = Fraction(robust.attackers_max * whole, len(weights))
            share = 1 - Fraction(2 * robust.attackers_max, len(weights))
            return [nearest(_between(column, cut, whole - cut) / share) for column in columns]
        case "centered_clipping":
            radius = max(1, round(robust.radius * policy.clipping.steps))
            return [value * whole for value in _centre(vectors, weights, radius=radius, steps=robust.iterations)]
        case rule:
            chosen = near(vectors, f=robust.attackers_max)[: robust.selected if rule == "multi_krum" else 1]
            part = sum(weights[place] for place in chosen)
            sums = [sum(weights[place] * vectors[place][at] for place in chosen) for at in range(len(columns))]
            return [nearest(Fraction(value * whole, part)) for value in sums]


def near(vectors: list[list[int]], *, f: int) -> list[int]:
    """All members by their scores, the sums of squared distances to the n - f - 2 nearest others; ties by place."""
    scores = []
    for place, own in enumerate(vectors):
        others = [other for at, other in enumerate(vectors) if at != place]
        distances = sorted(sum((a - b) ** 2 for a, b in zip(own, other, strict=True)) for other in others)
        scores.append((sum(distances[: len(vectors) - f - 2]), place))
    return [place for _, place in sorted(scores)]


def nearest(value: Fraction) -> int:
    """Rounded to the nearest whole number, halves up."""
    return floor(value + Fraction(1, 2))


def _middle(column: list[tuple[int, int]], whole: int) -> Fraction:
    """Where half of the weight lies on each side; the middle of the two where it may lie anywhere between them."""
    repeated = [next(v for v, below in _running(column) if 2 * below >= whole)]
    repeated += [next(v for v, below in _running(column) if 2 * below > whole)]
    return Fraction(sum(repeated), 2)


def _running(column: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(value, sum(weight for _, weight in column[: place + 1])) for place, (value, _) in enumerate(column)]


def _between(column: list[tuple[int, int]], low: Fraction, high: Fraction) -> Fraction:
    """The weighted sum of what lies between two weights from below; a member on the border counts in part."""
    total, below = Fraction(0), Fraction(0)
    for value, weight in column:
        total += max(Fraction(0), min(high, below + weight) - max(low, below)) * value
        below += weight
    return total


def _centre(vectors: list[list[int]], weights: list[int], *, radius: int, steps: int) -> list[int]:
    centre = [0] * len(vectors[0])
    for _ in range(steps):
        moved = [Fraction(0)] * len(centre)
        for vector, weight in zip(vectors, weights, strict=True):
            around = [a - b for a, b in zip(vector, centre, strict=True)]
            norm2 = sum(value * value for value in around)
            scale = min(1 << 40, isqrt((radius * radius << 80) // norm2)) if norm2 else 1 << 40
            for at, value in enumerate(around):
                cut = Fraction(abs(value) * scale >> 32, 256) * (-1 if value < 0 else 1)
                moved[at] += weight * cut / sum(weights)
        centre = [value + nearest(step) for value, step in zip(centre, moved, strict=True)]
    return centre
