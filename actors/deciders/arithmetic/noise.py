"""Noise drawn once (law 7): a discrete Gaussian on the sum's grid, from a key and a proposal, in integers only.

The ladder: X = Y_0 + B Y_1 + B^2 Y_2 + ..., each Y_i a discrete Gaussian from a table of cumulative probabilities. A
coarse lattice B Z is smoothed by the finer step below it when that step's sigma is at least twice B (Micciancio and
Walter 2017, theorem 2: the statistical distance falls as exp(-2 pi^2 (sigma/B)^2), here below 2^-110). Tables come from
`decimal`, which is specified to the last digit, so every machine has the same; no libm, no numpy.random.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.canonical import encode
from schemas.events import RoundProposed
from schemas.tensors import Grid

SAMPLER = "ladder-1"
_BASE = 1 << 10
_RUNG_SIGMA = 1 << 11
_TOP_VARIANCE_MAX = 1 << 24
_TAIL_SIGMAS = 12  # beyond it lies less than 2^-100, and a table entry resolves 2^-63
_DIGITS = 60


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
        thresholds, lowest = _table(variance)
        # Below 2^63, so that a uniform fits into int64 as the thresholds do.
        uniforms = _keystream(seed, rung, count=parameters) >> np.uint64(1)
        drawn = np.searchsorted(thresholds, uniforms.astype(np.int64), side="right") + lowest
        total += drawn * _BASE**rung
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


@lru_cache(maxsize=64)
def _table(variance: Fraction) -> tuple[npt.NDArray[np.int64], int]:
    """Thresholds t: a uniform u below 2^63 draws `lowest` + the number of t that are <= u."""
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
            thresholds.append(int(below / whole * (1 << 63)))
    return np.array(thresholds, np.int64), -tail


def _keystream(seed: bytes, rung: int, *, count: int) -> npt.NDArray[np.uint64]:
    # A counter of zero and one nonce a rung, so that no two rungs share a byte of the stream.
    nonce = bytes(4) + rung.to_bytes(12, "little")
    stream = Cipher(ChaCha20(seed, nonce), mode=None).encryptor().update(bytes(8 * count))
    return np.frombuffer(stream, "<u8")
