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
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
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
# With 2^19 places for the first bits of a uniform, 97 of 100 draws are one look into a table of a megabyte; with fewer
# places more of them are searched for, and a longer table leaves the core's own cache.
_GUIDE_BITS = 19
# So many draws at a time, that all that stands between a uniform and its place in the sum stays in that cache too.
_BLOCK = 1 << 14

Words = npt.NDArray[np.uint64]
Guide = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class Table(NamedTuple):
    """Thresholds t below 2^127: a uniform u draws `lowest` + the number of t that are <= u.

    `high` and `low` are the first 63 and the last 64 bits of each, ascending. `guide[i]` is the number of thresholds
    that are at most u for each u from i / 2^19 of the whole to the next; where one lies between, it is OPEN.
    """

    high: Words
    low: Words
    guide: Guide
    lowest: int

    @property
    def open(self) -> int:
        """What the guide holds where a uniform's first bits do not decide; no table has so many thresholds."""
        return int(np.iinfo(self.guide.dtype).max)


def draw(noise_key: bytes, proposal: RoundProposed, *, parameters: int) -> Grid:
    """The noise of this round, int64 of shape (parameters,), sigma as the proposal's mechanism says.

    The same key and proposal give the same noise on any machine and at any time; another member, weight, clip scale or
    mechanism gives an independent one.
    """
    assert proposal.mechanism is not None
    seed = derive_seed(noise_key, proposal)
    tables = [make_table(variance) for variance in ladder(proposal.mechanism.sigma)]
    total = np.zeros(parameters, np.int64)
    streams = [start_stream(seed, 2 * rung) for rung in range(len(tables))]
    for start in range(0, parameters, _BLOCK):
        block = total[start : start + _BLOCK]
        for rung, table in enumerate(tables):
            high = read_words(streams[rung], block.size) >> np.uint64(1)
            make_low = partial(_read_low_words, seed, 2 * rung + 1, start=start, count=block.size)
            drawn = count_thresholds(table, high, make_low=make_low)
            drawn *= _BASE**rung
            block += drawn
    total += sum(table.lowest * _BASE**rung for rung, table in enumerate(tables))
    return total


def derive_seed(noise_key: bytes, proposal: RoundProposed) -> bytes:
    """The 32 bytes from which all noise of a round follows; as secret as the key."""
    # The whole proposal is the info, so that a round that was changed in any way gets independent noise.
    return HKDF(SHA256(), 32, salt=None, info=b"fedlog/noise/1" + encode(proposal)).derive(noise_key)


def prepare(sigma: int) -> None:
    """Make the tables for this sigma now, 0.1 s for some, so that the first release need not wait for them."""
    for variance in ladder(sigma):
        make_table(variance)


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
    places = (high >> np.uint64(63 - _GUIDE_BITS)).view(np.int64)
    # Every place is within the guide: to wrap is only to spare the look whether it is.
    guided = table.guide.take(places, mode="wrap")
    [open_] = np.nonzero(guided == table.open)
    found = guided.astype(np.int64)
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
def make_table(variance: Fraction) -> Table:
    """The table of a discrete Gaussian with this variance; kept, because to make one takes 50 ms."""
    thresholds, lowest = compute_thresholds(variance)
    low_bits = (1 << 64) - 1
    high = np.array([threshold >> 64 for threshold in thresholds], np.uint64)
    edges = np.arange((1 << _GUIDE_BITS) + 1, dtype=np.uint64) << np.uint64(63 - _GUIDE_BITS)
    below = np.searchsorted(high, edges, side="left")
    guide: Guide = below[:-1].astype(np.uint16) if high.size < 0xFFFF else below[:-1].astype(np.uint32)
    guide[below[:-1] != below[1:]] = np.iinfo(guide.dtype).max
    return Table(
        high=high,
        low=np.array([threshold & low_bits for threshold in thresholds], np.uint64),
        guide=guide,
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


def start_stream(seed: bytes, stream: int) -> CipherContext:
    """The uniforms of a rung: stream 2 r has their first 64 bits, of which 63 are used, and 2 r + 1 their last."""
    # A counter of zero and one nonce a stream, so that no two words of a rung share a byte.
    nonce = bytes(4) + stream.to_bytes(12, "little")
    return Cipher(ChaCha20(seed, nonce), mode=None).encryptor()


def read_words(stream: CipherContext, count: int) -> Words:
    """The next words of a stream."""
    return np.frombuffer(stream.update(bytes(8 * count)), "<u8")


def _read_low_words(seed: bytes, stream: int, *, start: int, count: int) -> Words:
    # From the beginning of the stream: so seldom asked for that nothing need be quick.
    return read_words(start_stream(seed, stream), start + count)[start:]
