"""Integer sums (law 6): weighting and adding what is clipped, and the digest of a sum.

Everything here is integer arithmetic, so neither the order of arrival nor the machine changes a bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.tensors import Grid, Quanta
from schemas.tensors.clipping import clip_pieces

PARTS = 4
_PART_UPDATES_MAX = 1 << 9  # elements are within 2^21
_AT_ONCE = 1 << 16


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
        for place, clipped in clip_pieces(quanta, scale):
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
