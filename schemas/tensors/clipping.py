"""The clip of law 6, exact, on the grid: an aggregator clips by it, and where it sees no update, the device itself.

Everything here is integer arithmetic, or floats that hold whole numbers exactly: no machine changes a bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.tensors.grid import Grid, Quanta

SCALE_ONE = 1 << 16  # a clip scale of one: the vector is used as it is
_ROW = 1024  # elements of int8 whose squares add up to at most 2^24: exact in float32; of 2^21 to 2^52: in float64


def compute_squared_norm(quanta: Quanta) -> int:
    """The exact squared L2 norm in grid units; elements are within 2^21."""
    return sum(
        int(np.vecdot(_squares(values), multipliers[:, 0] * multipliers[:, 0]))
        for _, values, multipliers in quanta.pieces()
    )


def _squares(values: npt.NDArray[Any]) -> Grid:
    """The sum of the squares of each block: floats, because they are quick, and short rows, because they are exact."""
    rows: npt.NDArray[Any]
    if values.shape[1] % _ROW:
        rows = values.astype(np.int64)[:, None]
    else:
        rows = values.astype(np.float32 if values.itemsize == 1 else np.float64).reshape(len(values), -1, _ROW)
    squares: Grid = np.vecdot(rows, rows).astype(np.int64).sum(axis=1)
    return squares


def clip_scale(quanta: Quanta, clip_steps: int) -> int:
    """c = min(2^16, isqrt(floor(2^32 C^2 / |q|^2))), so that |c q / 2^16| <= C."""
    # Integers throughout: a float norm would differ in its last bit from one machine to the next.
    norm2 = compute_squared_norm(quanta)
    return SCALE_ONE if norm2 == 0 else min(SCALE_ONE, isqrt((clip_steps * clip_steps << 32) // norm2))


def clip(quanta: Quanta, scale: int) -> npt.NDArray[np.int32]:
    """All elements of an update, clipped by its scale: sign(q) floor(c |q| / 2^16), of shape (parameters,)."""
    vector = np.zeros(quanta.parameters, np.int32)
    for place, clipped in clip_pieces(quanta, scale):
        vector[place if quanta.indices is None else quanta.indices[place]] = clipped
    return vector


def clip_pieces(quanta: Quanta, scale: int) -> Iterator[tuple[slice, npt.NDArray[np.int32]]]:
    """The same in pieces that fit a cache, each with its place among the values."""
    for place, values, multipliers in quanta.pieces():
        if scale == SCALE_ONE:
            clipped = values.astype(np.int32)
            clipped *= multipliers.astype(np.int32)
        else:
            # Exact, because c |q| is below 2^53; the cut is towards zero, so that no norm grows.
            wide = values.astype(np.float64)
            wide *= multipliers * (scale / SCALE_ONE)
            clipped = wide.astype(np.int32)
        yield place, clipped.reshape(-1)
