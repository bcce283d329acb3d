"""Integer sums (law 6): exact clipping, weighting and adding, and the digest of a sum.

Everything here is integer arithmetic, so neither the order of arrival nor the machine changes a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.tensors import Grid, Quanta

SCALE_ONE = 1 << 16  # a clip scale of one: the vector is used as it is
PARTS = 4
_PART_UPDATES_MAX = 1 << 9  # elements are within 2^21
_AT_ONCE = 1 << 16
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
    for place, clipped in _clip_pieces(quanta, scale):
        vector[place if quanta.indices is None else quanta.indices[place]] = clipped
    return vector


def _clip_pieces(quanta: Quanta, scale: int) -> Iterator[tuple[slice, npt.NDArray[np.int32]]]:
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


class RunningSum:
    """The sum over a round's updates of weight * sign(q) floor(c |q| / 2^16); it gives the same total in any order.

    Most updates of a round have one of a few weights. Those of one weight are added up in 32 bits, which is quick, and
    weighted together: vectors of shape (parameters,), one in 64 bits and at most PARTS in 32, however many updates.
    """

    def __init__(self, parameters: int) -> None:
        self._total = np.zeros(parameters, np.int64)
        self._parts: dict[int, _Part] = {}

    def add(self, quanta: Quanta, *, weight: int, scale: int, update: str = "") -> None:
        """Clip one update by its scale, and add it; a sum does not ask which `update` it is."""
        del update
        part = self._parts.get(weight)
        if part is None or part.updates == _PART_UPDATES_MAX:
            part = self._open_part(weight)
        part.updates += 1
        for place, clipped in _clip_pieces(quanta, scale):
            part.vector[place if quanta.indices is None else quanta.indices[place]] += clipped

    def total(self) -> Grid:
        """The sum so far, int64 of shape (parameters,); not to be written to."""
        for weight in [*self._parts]:
            self._weigh(weight)
        return self._total

    def _open_part(self, weight: int) -> _Part:
        # Weighing costs a pass over the vector: only when a part is full, or a new weight needs its room.
        if weight in self._parts or len(self._parts) == PARTS:
            self._weigh(weight if weight in self._parts else next(iter(self._parts)))
        self._parts[weight] = _Part(np.zeros(self._total.size, np.int32))
        return self._parts[weight]

    def _weigh(self, weight: int) -> None:
        vector = self._parts.pop(weight).vector
        # In slices, so that the 64-bit product of a large vector does not double the memory.
        for start in range(0, vector.size, _AT_ONCE):
            self._total[start : start + _AT_ONCE] += vector[start : start + _AT_ONCE].astype(np.int64) * weight


@dataclass(slots=True)
class _Part:
    """Updates of one weight, not weighted yet."""

    vector: npt.NDArray[np.int32]
    updates: int = 0


def sum_digest(total: Grid) -> bytes:
    """The sha256 of a sum's little-endian int64 bytes."""
    return hashlib.sha256(np.ascontiguousarray(total, "<i8").view(np.uint8).data).digest()
