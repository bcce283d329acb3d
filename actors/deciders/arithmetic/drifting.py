"""How far two histograms are apart, and how far chance and noise alone would have them: PSI and KS, in millionths.

The unit is a device, as in privacy: its examples are alike, so that chance is judged by how many devices answered, and
not by how many examples they have. In decimals of a fixed length, whose logarithms and roots are rounded rightly by
definition: a replay finds the same on every machine.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from schemas.policy import WEIGHT_ONE, Policy

_DECIMALS = decimal.Context(
    prec=24,
    rounding=decimal.ROUND_HALF_EVEN,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)
MILLION = 1_000_000
# A PSI beyond it, or a bound by chance, says no more than this.
MILLIONTHS_MAX = 10**12
# Of all distances of one version together at most one in a hundred times is any beyond chance.
FALSE_ALARMS = Decimal("0.01")
# The normal quantile of 1 - FALSE_ALARMS / 2 / 2^i: a half for each of both distances, and so many comparisons.
_NORMAL_QUANTILES = tuple(
    map(Decimal, ("2.575829", "2.807034", "3.023341", "3.227218", "3.420527", "3.604711", "3.780920", "3.950080"))
)
# What is put into each bin, in devices: an empty one would make the PSI infinite.
_SMOOTHING = Decimal("0.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Counts by bin, of how many devices they are, and the standard deviation of the noise in each count."""

    counts: tuple[Decimal, ...]
    devices: Decimal
    noise: Decimal = Decimal(0)

    @property
    def whole(self) -> Decimal:
        """All examples in it."""
        return _add(self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Two distances in millionths, and up to where each is chance."""

    psi: int
    ks: int
    psi_by_chance: int
    ks_by_chance: int


def read_counts(values: Sequence[float], *, times: int = 1) -> tuple[Decimal, ...]:
    """Counts as they were released, exactly; of means the sums over so many devices."""
    with decimal.localcontext(_DECIMALS):
        return tuple(Decimal(value) * times for value in values)


def find_noise(policy: Policy, statistic: str) -> Decimal:
    """The standard deviation of the noise in each element of a statistic's sum, in its own units; 0 without privacy."""
    assert policy.measure is not None
    with decimal.localcontext(_DECIMALS):
        unit = Decimal(policy.clipping.step) * Decimal(policy.measure.statistics[statistic].bound) / WEIGHT_ONE
        return unit * policy.sigma * Decimal(policy.noise_draws).sqrt()


def join(parts: Sequence[Histogram]) -> Histogram:
    """All of them together; their noises are independent."""
    with decimal.localcontext(_DECIMALS):
        return Histogram(
            counts=tuple(_add(column) for column in zip(*(part.counts for part in parts), strict=True)),
            devices=_add([part.devices for part in parts]),
            noise=_add([part.noise * part.noise for part in parts]).sqrt(),
        )


def compare(reference: Histogram, now: Histogram, *, comparisons: int = 1) -> Distances | None:
    """How far `now` is from the reference; None where one of them has no examples, or no device answered.

    Chance is that of `comparisons` at once: whoever looks often enough finds something.
    """
    with decimal.localcontext(_DECIMALS):
        if not all(map(_is_telling, (reference, now))):
            return None
        level = min((max(1, comparisons) - 1).bit_length(), len(_NORMAL_QUANTILES) - 1)
        # What two samples of so many devices of one population differ by.
        spread = 1 / reference.devices + 1 / now.devices
        # Of the noise in a share, squared, of both together.
        noise = (reference.noise / reference.whole) ** 2 + (now.noise / now.whole) ** 2
        p, q = _smooth(reference), _smooth(now)
        weights = [spread + 2 * noise / (a + b) for a, b in zip(p, q, strict=True)]
        return Distances(
            psi=_round(_compute_psi(p, q)),
            ks=_round(_compute_ks(reference, now)),
            psi_by_chance=_round(_find_psi_by_chance(weights, level)),
            ks_by_chance=_round(_find_ks_by_chance(spread, noise * len(p), level=level)),
        )


def _is_telling(one: Histogram) -> bool:
    # A cohort nobody of which answered has no shares, and noise may have drowned the few who did.
    return one.devices >= 1 and one.whole > 0


def _compute_psi(p: Sequence[Decimal], q: Sequence[Decimal]) -> Decimal:
    """The population stability index, sum of (q - p) ln(q / p) over bins."""
    return _add([(b - a) * (b / a).ln() for a, b in zip(p, q, strict=True)])


def _compute_ks(reference: Histogram, now: Histogram) -> Decimal:
    """The Kolmogorov-Smirnov distance: the largest difference of the shares up to any bin.

    Counts below zero, which noise can make, stay: cut off, they would move all others.
    """
    furthest = up_to = Decimal(0)
    for a, b in zip(reference.counts, now.counts, strict=True):
        up_to += b / now.whole - a / reference.whole
        furthest = max(furthest, abs(up_to))
    return furthest


def _find_psi_by_chance(weights: Sequence[Decimal], level: int) -> Decimal:
    """The quantile of a weighted sum of chi-squares, one a bin but the last.

    Without noise all weights are alike (Yurdakul 2018); else as Satterthwaite (1946) has it, and Wilson and Hilferty
    (1931) the quantile.
    """
    total, squares = _add(weights), _add([weight * weight for weight in weights])
    freedom = total * total / squares * (len(weights) - 1) / len(weights)
    part = 2 / (9 * freedom)
    root = 1 - part + _NORMAL_QUANTILES[level] * part.sqrt()
    return squares / total * freedom * root * root * root


def _find_ks_by_chance(spread: Decimal, noise: Decimal, *, level: int) -> Decimal:
    """Kolmogorov's quantile by its first term (Smirnov 1948); noise adds to it as a walk of so much variance.

    A walk goes twice as far as the bridge that sampling is, because nothing ties it where shares are few.
    """
    alarms = FALSE_ALARMS / 2 / Decimal(2**level)
    quantile = -(alarms / 2).ln() / 2
    return (quantile * (spread + 4 * noise)).sqrt()


def _smooth(one: Histogram) -> list[Decimal]:
    # In devices and not in examples, so that the same share weighs more where more have answered.
    held = [max(count, Decimal(0)) for count in one.counts]
    whole = _add(held)
    devices = [count / whole * one.devices + _SMOOTHING for count in held]
    of_all = _add(devices)
    return [each / of_all for each in devices]


def _add(values: Sequence[Decimal]) -> Decimal:
    total = Decimal(0)
    for value in values:
        total += value
    return total


def _round(value: Decimal) -> int:
    return min(int((value * MILLION).to_integral_value(decimal.ROUND_HALF_EVEN)), MILLIONTHS_MAX)
