"""Noise drawn once (law 7): a discrete Gaussian on the sum's grid, from a key and a proposal, in integers only.

The ladder: X = Y_0 + B Y_1 + B^2 Y_2 + ..., each Y_i a discrete Gaussian from a table of cumulative probabilities. A
coarse lattice B Z is smoothed by the finer step below it: for variances v_0 and v_1, and s^2 = 1/(1/v_0 + 1/(B^2 v_1)),
the density of Y_0 + B Y_1 is off by a factor of at most 1 +- 2.1 exp(-2 pi^2 s^2/B^2) (Micciancio and Walter 2017,
theorem 2), here below 2^-300. A table is off by less than 2^-107 in total variation, most of it beyond its ends. Tables
come from `decimal`, which is specified to the last digit, so every machine has the same; no libm, no numpy.random.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.canonical import encode
from schemas.events import RoundProposed
from schemas.tensors import Grid

SAMPLER = "ladder-2"
_BASE = 1 << 9
_RUNG_SIGMA = 4 * _BASE
# A rung is added above this only, so that what is left for the top is wide enough to be a step of its own.
_TOP_VARIANCE_MIN = 64
_TOP_VARIANCE_MAX = _RUNG_SIGMA**2 + _TOP_VARIANCE_MIN * _BASE**2
_TAIL_SIGMAS = 12  # beyond it lies less than 2^-107
_DIGITS = 60
_THRESHOLD_BITS = 127
_GUIDE_BITS = 16

Words = npt.NDArray[np.uint64]


class Table(NamedTuple):
    """Thresholds t below 2^127: a uniform u draws `lowest` + the number of t that are <= u.

    `high` and `low` are the first 63 and the last 64 bits of each, ascending. `guide[i]` is the number of thresholds
    below i / 2^16 of the whole, so that most draws need no search.
    """

    high: Words
    low: Words
    guide: npt.NDArray[np.int64]
    lowest: int


def draw(noise_key: bytes, proposal: RoundProposed, *, parameters: int) -> Grid:
    """The noise of this round, int64 of shape (parameters,), sigma as the proposal's mechanism says.

    The same key and proposal give the same noise on any machine and at any time; another member, weight, clip scale or
    mechanism gives an independent one.
    """
    assert proposal.mechanism is not None
    # The whole proposal is the info, so that a round that was changed in any way gets independent noise.
    seed = HKDF(SHA256(), 32, salt=None, info=b"fedlog/noise/1" + encode(proposal)).derive(noise_key)
    total = np.zeros(parameters, np.int64)
    for rung, variance in enumerate(ladder(proposal.mechanism.sigma)):
        table = _make_table(variance)
        high = _keystream(seed, 2 * rung, count=parameters) >> np.uint64(1)
        drawn = count_thresholds(table, high, make_low=partial(_keystream, seed, 2 * rung + 1, count=parameters))
        total += (drawn + table.lowest) * _BASE**rung
    return total


def ladder(sigma: int) -> tuple[Fraction, ...]:
    """The variance of each Y_i, finest first; sum of B^(2i) times them is sigma^2 exactly."""
    rungs: list[Fraction] = []
    left, scale = Fraction(sigma * sigma), 1
    # Exact fractions: a rounded variance would be another mechanism than the one that was charged.
    while left / scale > _TOP_VARIANCE_MAX:
        rungs.append(Fraction(_RUNG_SIGMA**2))
        left -= scale * _RUNG_SIGMA**2
        scale *= _BASE**2
    return (*rungs, left / scale)


def count_thresholds(table: Table, high: Words, *, make_low: Callable[[], Words]) -> npt.NDArray[np.int64]:
    """For each uniform of 63 + 64 bits, how many thresholds are at most it; int64 of the shape of `high`.

    `make_low` gives the last 64 bits of all of them; it is asked only where the first 63 do not decide.
    """
    bucket = (high >> np.uint64(63 - _GUIDE_BITS)).astype(np.int64)
    found = table.guide[bucket]
    [open_] = np.nonzero(table.guide[bucket + 1] != found)
    searched = high[open_]
    found[open_] = below = np.searchsorted(table.high, searched, side="left")
    # Above the last threshold there is none to be equal to.
    [ties] = np.nonzero(table.high[np.minimum(below, table.high.size - 1)] == searched)
    if ties.size:
        low = make_low()
        # One by one, because the first 63 bits of a uniform are those of a threshold about once in 2^46 draws.
        for place in open_[ties]:
            equal = slice(found[place], np.searchsorted(table.high, high[place], side="right"))
            found[place] += np.searchsorted(table.low[equal], low[place], side="right")
    return found


@lru_cache(maxsize=64)
def _make_table(variance: Fraction) -> Table:
    thresholds, lowest = compute_thresholds(variance)
    low_bits = (1 << 64) - 1
    high = np.array([threshold >> 64 for threshold in thresholds], np.uint64)
    edges = np.arange((1 << _GUIDE_BITS) + 1, dtype=np.uint64) << np.uint64(63 - _GUIDE_BITS)
    return Table(
        high=high,
        low=np.array([threshold & low_bits for threshold in thresholds], np.uint64),
        guide=np.searchsorted(high, edges, side="left").astype(np.int64),
        lowest=lowest,
    )


def compute_thresholds(variance: Fraction) -> tuple[list[int], int]:
    """The thresholds of a table as whole numbers, and the lowest value that is drawn."""
    with localcontext(Context(prec=_DIGITS)):
        two = 2 * Decimal(variance.numerator) / Decimal(variance.denominator)
        tail = int((_TAIL_SIGMAS * (two / 2).sqrt()).to_integral_value()) + 1
        # exp(-k^2/2v) by recurrence: two multiplications a step instead of an exponential.
        ratio, square = (-1 / two).exp(), (-2 / two).exp()
        half = [Decimal(1)]
        for _ in range(tail):
            half.append(half[-1] * ratio)
            ratio *= square
        density = half[:0:-1] + half
        whole = sum(density)
        thresholds, below = [], Decimal(0)
        for value in density[:-1]:
            below += value
            thresholds.append(int(below / whole * (1 << _THRESHOLD_BITS)))
    return thresholds, -tail


def _keystream(seed: bytes, stream: int, *, count: int) -> Words:
    # A counter of zero and one nonce a stream, so that no two words of a rung share a byte.
    nonce = bytes(4) + stream.to_bytes(12, "little")
    words = Cipher(ChaCha20(seed, nonce), mode=None).encryptor().update(bytes(8 * count))
    return np.frombuffer(words, "<u8")
