"""The grid of a task: whole multiples of the policy's step, so that every sum of updates is exact (law 6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.policy import Clipping
from schemas.tensors.frames import Floats

Grid = npt.NDArray[np.int64]

BLOCK = 4096  # elements that share one multiplier
# So many elements are worked on at a time, that intermediate results stay in a core's own cache.
CHUNK_ELEMENTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Quanta:
    """An update in grid units, as small as its codec holds it.

    Element i is values[i] * multipliers[i // BLOCK]. It stands at indices[i], and all others are zero; without
    `indices` it stands at i. Whole numbers throughout, so that every sum of them is exact.
    """

    parameters: int
    values: npt.NDArray[np.signedinteger[Any]]
    multipliers: Grid
    indices: Grid | None = None

    @classmethod
    def from_values(cls, values: npt.NDArray[np.signedinteger[Any]]) -> Quanta:
        """A vector that is in grid units already."""
        return cls(values.size, values, np.ones(count_blocks(values.size), np.int64))

    def pieces(self, elements: int = CHUNK_ELEMENTS) -> Iterator[tuple[slice, npt.NDArray[Any], Grid]]:
        """Their place among the values, values of shape (blocks, BLOCK), multipliers of shape (blocks, 1).

        Each piece has about `elements` values; the rest at the end is one short block.
        """
        # Only whole blocks have the shape (blocks, BLOCK) without a copy.
        whole = self.values.size - self.values.size % BLOCK
        rest = [self.values.size] if whole < self.values.size else []
        for start, end in pairwise([*range(0, whole, elements), whole, *rest]):
            width = min(BLOCK, end - start)
            blocks = self.multipliers[start // BLOCK : count_blocks(end)]
            yield slice(start, end), self.values[start:end].reshape(-1, width), blocks[:, None]

    def largest(self) -> int:
        """The largest absolute value of an element."""
        worst = 0
        for _, values, multipliers in self.pieces(1 << 30):
            # In int64, because the negative of -128 does not fit into a byte.
            high, low = values.max(axis=1).astype(np.int64), values.min(axis=1).astype(np.int64)
            worst = max(worst, int((np.maximum(high, -low) * multipliers[:, 0]).max()))
        return worst

    def grid(self) -> Grid:
        """All elements, int64 of shape (parameters,)."""
        elements = np.empty(self.values.size, np.int64)
        for place, values, multipliers in self.pieces():
            elements[place] = (values * multipliers).reshape(-1)
        if self.indices is None:
            return elements
        grid = np.zeros(self.parameters, np.int64)
        grid[self.indices] = elements
        return grid


def to_grid(delta: Floats, clipping: Clipping) -> Grid:
    """q = rint(delta / step): the one rounding, before anything else (law 6)."""
    return round_to_grid(delta, clipping).astype(np.int64)


def round_to_grid(delta: Floats, clipping: Clipping) -> npt.NDArray[np.float64]:
    """The same as whole numbers in float64, which are exact below 2^53 and need no conversion to be divided."""
    wide = delta.astype(np.float64)
    wide /= clipping.step
    return np.rint(wide, out=wide)


def from_grid(grid: Grid | npt.NDArray[np.float64], clipping: Clipping) -> Floats:
    """What a server sees of an update, float32 in units of the parameters; devices subtract it for error feedback."""
    return (grid * clipping.step).astype(np.float32)


def count_blocks(elements: int) -> int:
    """How many blocks they fill, the last one perhaps in part."""
    return -(-elements // BLOCK)
