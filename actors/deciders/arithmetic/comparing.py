"""How far each member of a round stands apart from the others: sketches of their vectors, and robust scores of those.

A round is compared on sketches, so that it costs memory by its members alone and no second look at a body: a vector
folded onto SKETCH columns, each element with a random sign, keeps products of vectors to about 1.6 % of their lengths
(Charikar, Chen and Farach-Colton 2002). A shorter vector is its own sketch. The signs come of a seed that nobody knows
before the round is over, or a sender could hide what it sends behind them.

Sketches and their sums are whole numbers; what follows is elementwise float64 (+ - x / and roots) in a fixed order, so
that every machine gets the same bits, as for an optimizer's step (law 6).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.tensors import Grid, Quanta, clipping

Doubles = npt.NDArray[np.float64]
# Prime, so that the rows of a layer do not all fall onto the same columns.
SKETCH = 4093
# In fewer nobody is usual: with one left out there have to be four.
MEMBERS_MIN = 5
_ROWS_AT_ONCE = 64
_NORMAL = 0.6745  # the upper quartile of a normal distribution, which is its MAD
# What is usual is never narrower than this: in rounds that are all alike, whoever differs at all would stand out. A
# share of the median length; and for cosines, which are from -1 to 1, by itself.
_LENGTHS_MAD_MIN, _COSINES_MAD_MIN = 1 / 16, 1 / 32
_THOUSAND = 1000
_CUT_ONE = 1 << 8
# A score says that somebody is far out, and not how far beyond all measure.
SCORE_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Score:
    """How one member lies to the others, in thousandths: lengths of the clip, the cosine of one.

    `distance` and `cosine` are to the middle of the others: their mean, each cut to the median length. `z`: how far
    out, by whichever of distance, norm and cosine is the farthest.
    """

    distance: int
    norm: int
    cosine: int
    z: int


class Sketcher:
    """Makes the sketches of one round."""

    def __init__(self, seed: bytes, parameters: int) -> None:
        self._parameters = parameters
        # A bit an element: an eighth of a byte of each parameter, however many members there are.
        self._bits = b"" if parameters <= SKETCH else hashlib.shake_128(seed).digest(-(-parameters // 8))

    def sketch(self, quanta: Quanta, *, scale: int) -> Grid:
        """Of an update, clipped by its scale; int64 of shape (SKETCH,), or as it is where it is shorter."""
        vector = clipping.clip(quanta, scale)
        if self._parameters <= SKETCH:
            return vector.astype(np.int64)
        sketch, width = np.zeros(SKETCH, np.int64), SKETCH * _ROWS_AT_ONCE
        for start in range(0, self._parameters, width):
            part = vector[start : start + width]
            bits = np.frombuffer(self._bits[start // 8 : (start + width) // 8 + 1], np.uint8)
            part *= np.unpackbits(bits, count=part.size).view(np.int8) * np.int8(2) - np.int8(1)
            whole = part.size - part.size % SKETCH
            # Elements are within 2^21, and rows fewer than 2^10.
            sketch += part[:whole].reshape(-1, SKETCH).sum(axis=0, dtype=np.int32)
            sketch[: part.size - whole] += part[whole:]
        return sketch


def compare(sketches: Grid, *, clip: int) -> list[Score]:
    """The score of each member of a round, in the order of their update ids; `sketches` of shape (members, columns).

    `z` is the smallest of its robust z-scores, 0.6745 (x - median) / MAD (Iglewicz and Hoaglin 1993), over the rounds
    in which one of the others is left out. So what one member sends can make no other stand out: without it, that one
    would not. None of them stands out in a round of fewer than MEMBERS_MIN.
    """
    count, round_ = len(sketches), _Round(sketches)
    distances, norms, cosines = round_.measure(None)
    z = np.zeros(count)
    if count >= MEMBERS_MIN:
        z[:] = np.inf
        for out in range(count):
            kept = np.arange(count) != out
            z[kept] = np.minimum(z[kept], round_.score(out))
    return [
        Score(
            distance=_to_thousandths(distance / clip),
            norm=_to_thousandths(norm / clip),
            cosine=_to_thousandths(cosine),
            z=_to_thousandths(max(0.0, far)),
        )
        for distance, norm, cosine, far in zip(distances, norms, cosines, z, strict=True)
    ]


def measure_cosine(one: Grid, other: Grid) -> int:
    """The cosine of two sketches under one seed, in thousandths; 0 where one of them is nothing."""
    # In Python's own numbers, because products of the longest may pass 64 bits; two sketches are soon done.
    wide, others = one.astype(object), other.astype(object)
    lengths = math.sqrt(int(wide @ wide) * int(others @ others))
    return _to_thousandths(int(wide @ others) / lengths) if lengths else 0


def score_without(sketches: Grid, out: int) -> Doubles:
    """The robust z-scores of all members but one, as if that one were not there; float64 of shape (members - 1,)."""
    return _Round(sketches).score(out)


class _Round:
    """The products of a round's sketches, and what follows from them for its members without one."""

    def __init__(self, sketches: Grid) -> None:
        self._products = _measure_products(sketches)
        self._norms = np.sqrt(np.diagonal(self._products).astype(np.float64))
        self._along: dict[float, tuple[Grid, Grid]] = {}

    def measure(self, out: int | None) -> tuple[Doubles, Doubles, Doubles]:
        """Distance, norm and cosine of each, without the one that is left `out`; float64 of shape (members,)."""
        kept = np.ones(len(self._norms), bool)
        if out is not None:
            kept[out] = False
        norms = self._norms[kept]
        cuts, along = self._find_middle(_find_median(norms))
        if out is not None:
            # In whole numbers, so that nothing of the one that is out stays behind.
            along = along - cuts[out] * self._products[out]
        cuts, along, squares = cuts[kept], along[kept], np.diagonal(self._products)[kept]
        # The square of the sum of all, in Python's own numbers: it may pass 64 bits.
        whole = sum(int(cut) * int(each) for cut, each in zip(cuts, along, strict=True)) / _CUT_ONE**2
        # Of each to the sum of the others, and the square of that sum.
        others, shares = max(1, len(norms) - 1), cuts / _CUT_ONE
        towards = (along - cuts * squares).astype(np.float64) / _CUT_ONE
        reached, squared = along.astype(np.float64) / _CUT_ONE, squares.astype(np.float64)
        rest = np.maximum(0.0, whole - 2 * shares * reached + shares * shares * squared)
        distances = np.sqrt(np.maximum(0.0, squared - 2 * towards / others + rest / others / others))
        lengths = norms * np.sqrt(rest)
        return distances, norms, np.where(lengths > 0, towards / np.where(lengths > 0, lengths, 1.0), 0.0)

    def score(self, out: int) -> Doubles:
        """How far out each of the others is: far, long, or pointing away; not for agreeing, or for being short."""
        distances, norms, cosines = self.measure(out)
        least = _find_median(norms) * _LENGTHS_MAD_MIN
        lengths = np.maximum(_score(distances, mad_min=least), _score(norms, mad_min=least))
        return np.maximum(lengths, _score(-cosines, mad_min=_COSINES_MAD_MIN))

    def _find_middle(self, median: float) -> tuple[Grid, Grid]:
        """To what share of _CUT_ONE each is cut where this is the median length, and its product with the sum of all.

        Cut, so that one that is long does not say where the middle is.
        """
        # Whoever is left out, there are no more than three medians.
        if median not in self._along:
            lengths = np.where(self._norms > 0, self._norms, 1.0)
            cuts = np.floor(np.minimum(1.0, median / lengths) * _CUT_ONE).astype(np.int64)
            self._along[median] = cuts, self._products @ cuts
        return self._along[median]


def _score(values: Doubles, *, mad_min: float) -> Doubles:
    apart = values - _find_median(values)
    mad = max(mad_min, _find_median(np.abs(apart)))
    # Where more than half have sent nothing, there is no length by which others are long.
    return _NORMAL * apart / mad if mad > 0 else np.zeros_like(values)


def _find_median(values: Doubles) -> float:
    ordered, middle = np.sort(values), len(values) // 2
    return float(ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2)


def _measure_products(sketches: Grid) -> Grid:
    """The product of each sketch with each, exact; in Python's own numbers where their cut sums could pass 64 bits."""
    largest = int(np.vecdot(sketches, sketches).max(initial=0))
    if largest < 1 << 53:
        # No partial sum leaves the whole numbers of float64, so that BLAS may add in any order.
        wide = sketches.astype(np.float64)
        products = (wide @ wide.T).astype(np.int64)
    else:
        products = sketches @ sketches.T
    return products.astype(object) if largest * _CUT_ONE * len(sketches) >= 1 << 62 else products


def _to_thousandths(value: float) -> int:
    return int(max(-SCORE_MAX, min(SCORE_MAX, np.rint(value * _THOUSAND))))
