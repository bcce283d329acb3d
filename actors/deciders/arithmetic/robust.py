"""Robust rules on the grid: one vector from those of a round, of which up to f may be anybody's.

Vectors are whole grid units, at most C long each, weights whole numbers. Each rule gives a location times the sum W of
the weights, rounded to whole units, so that it stands where the mean has its weighted sum. Members come in the order of
their update ids, by which ties are broken, and everything is exact: no order of arrival and no machine changes a bit.

A weight counts as so much of a member: a rule's result is what it would be with every member there `weight` times, and
f of n members are then f W / n of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isqrt
from typing import Protocol

import numpy as np
import numpy.typing as npt

from schemas.tensors import Grid

# Grid units are within 2^21, so that squares add up exactly in float64: |x| |y| bounds every partial sum by C^2.
CLIP_STEPS_MAX = 1 << 21
# How finely centered clipping cuts: a difference is below 2^22, and its product with a scale stays within 64 bits.
_SCALE_BITS = 40
# And what is kept of the product: so many bits behind the point, with weights below 2^20 of up to 2^10 members.
_CUT_BITS = 8


class Members(Protocol):
    """The clipped vectors of a round, in the order of their update ids; read in pieces, for they may lie on a disk."""

    @property
    def weights(self) -> Grid:
        """int64 of shape (members,), above zero."""
        ...

    @property
    def parameters(self) -> int:
        """The length of each vector."""
        ...

    def pieces(self) -> Iterator[tuple[slice, Grid]]:
        """All elements in their order: a slice of the parameters, and int64 of shape (members, its length)."""
        ...


def median(members: Members) -> Grid:
    """The weighted median of each coordinate, times W; where half the weight lies on each side, the mean of the two.

    With equal weights the median of Yin et al., ICML 2018, as numpy has it.
    """

    def reduce(piece: Grid) -> Grid:
        values, weights = _sort(piece, members.weights)
        below, whole = weights.cumsum(axis=0), int(members.weights.sum())
        # The first that reaches half the weight from below, and the first that passes it.
        low = (2 * below >= whole).argmax(axis=0)
        high = (2 * below > whole).argmax(axis=0)
        twice = np.take_along_axis(values, low[None], axis=0) + np.take_along_axis(values, high[None], axis=0)
        return np.asarray(twice[0] * whole // 2)

    return _reduce(members, reduce)


def trim_mean(members: Members, *, f: int) -> Grid:
    """The mean of each coordinate without f W / n of the weight at each end, times W (Yin et al., ICML 2018)."""
    count, weights = len(members.weights), members.weights
    cut, whole = f * int(weights.sum()), count * int(weights.sum())

    def reduce(piece: Grid) -> Grid:
        values, sorted_weights = _sort(piece, weights)
        # In n-ths of a weight, so that the cut falls on whole numbers.
        above = (count * sorted_weights).cumsum(axis=0)
        kept = np.clip(above, cut, whole - cut)
        kept[1:] -= kept[:-1].copy()
        kept[0] -= cut
        return _divide((kept * values).sum(axis=0), count - 2 * f)

    return _reduce(members, reduce)


def krum(members: Members, *, f: int, selected: int = 1) -> Grid:
    """The weighted mean of the `selected` members with the smallest scores, times W.

    A score is the sum of the squared distances to the n - f - 2 nearest others (Blanchard et al., NeurIPS 2017); a
    member's own weight makes it neither nearer nor farther. One selected is Krum, more are Multi-Krum.
    """
    chosen = choose_nearest(_measure_distances(members), f=f, selected=selected)
    weights, whole = members.weights[chosen], int(members.weights.sum())
    part = int(weights.sum())

    def reduce(piece: Grid) -> Grid:
        # Whole and remainder apart: their product could pass 64 bits.
        quotient, remainder = np.divmod(weights @ piece[chosen], part)
        return quotient * whole + _divide(remainder * whole, part)

    return _reduce(members, reduce)


def choose_nearest(distances: Grid, *, f: int, selected: int) -> list[int]:
    """The members with the smallest scores, by their squared distances, int64 of shape (n, n); the first of equals."""
    count = len(distances)
    scores = np.sort(distances, axis=1)[:, 1 : count - f - 1].sum(axis=1)
    return sorted(np.argsort(scores, kind="stable")[:selected].tolist())


def clip_centered(members: Members, *, radius: int, iterations: int) -> Grid:
    """Centered clipping from zero, times W: the centre moves by the mean of what lies around it, cut to `radius`.

    Karimireddy et al., ICML 2021. The radius is in grid units; the centre is rounded to whole ones after each step.
    """
    centre, whole = np.zeros(members.parameters, np.int64), int(members.weights.sum())
    for _ in range(iterations):
        squares = np.zeros(len(members.weights), np.int64)
        for place, piece in members.pieces():
            around = piece - centre[place]
            squares += np.vecdot(around, around)
        scales = np.array([_find_scale(int(square), radius) for square in squares])[:, None]
        for place, piece in members.pieces():
            around = piece - centre[place]
            # Towards zero, as the clip of every update: no norm grows.
            cut = np.sign(around) * (np.abs(around) * scales >> _SCALE_BITS - _CUT_BITS)
            centre[place] += _divide(members.weights @ cut, whole << _CUT_BITS)
    return centre * whole


def _find_scale(square: int, radius: int) -> int:
    one = 1 << _SCALE_BITS
    return one if square == 0 else min(one, isqrt((radius * radius << 2 * _SCALE_BITS) // square))


def _reduce(members: Members, reduce: Callable[[Grid], Grid]) -> Grid:
    """A rule that looks at each coordinate by itself."""
    result = np.empty(members.parameters, np.int64)
    for place, piece in members.pieces():
        result[place] = reduce(piece)
    return result


def _sort(piece: Grid, weights: Grid) -> tuple[Grid, Grid]:
    """The values of each coordinate in ascending order, and the weights that go with them."""
    # Most rounds have one weight, and to sort values alone takes a third of the time.
    if (weights == weights[0]).all():
        return np.sort(piece, axis=0), np.broadcast_to(weights[:, None], piece.shape)
    order = np.argsort(piece, axis=0, kind="stable")
    return np.take_along_axis(piece, order, axis=0), weights[order]


def _measure_distances(members: Members) -> Grid:
    """The squared distance of each member to each, int64 of shape (members, members)."""
    count = len(members.weights)
    products: npt.NDArray[np.float64] = np.zeros((count, count))
    for _, piece in members.pieces():
        wide = piece.astype(np.float64)
        # Exact whatever the order of BLAS: no partial sum leaves the whole numbers of float64.
        products += wide @ wide.T
    squares = np.diagonal(products)
    return (squares[:, None] + squares[None] - 2 * products).astype(np.int64)


def _divide(number: Grid, divisor: int) -> Grid:
    """To the nearest whole number, halves up."""
    return np.asarray((2 * number + divisor) // (2 * divisor))
