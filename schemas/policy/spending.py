"""What private tasks have spent, in exact fractions: zCDP adds up over the tasks that carry on from each other.

A device that takes part p times at noise multiplier z has spent rho = p / (2 z^2) (Bun and Steinke 2016, propositions
1.6 and 2.3: it is a sum over releases, and over tasks). Fractions, because a float is rounded: a cap that was rounded
down gives away a participation, and one that was rounded up passes the budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import floor

import msgspec

from schemas.identifiers import Count, TaskId


class Spending(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The busiest device of one task took part so often, each time under this noise multiplier."""

    task: TaskId
    participations: Count
    noise_multiplier: float


class Share(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One device took part so often under this noise multiplier, in whatever tasks."""

    participations: Count
    noise_multiplier: float


def to_fraction(number: float) -> Fraction:
    """The number that stands in the policy, not the nearest binary one: 0.1 is one tenth."""
    return Fraction(repr(number))


def compute_rho(spent: Iterable[Spending | Share]) -> Fraction:
    """The zCDP of all of it together."""
    return sum((one.participations / (2 * to_fraction(one.noise_multiplier) ** 2) for one in spent), Fraction(0))


def join_shares(spent: Iterable[Spending | Share]) -> tuple[Share, ...]:
    """The same in as few numbers as it takes: one a noise multiplier, ascending, and none of nothing."""
    counts: dict[float, int] = {}
    for one in spent:
        counts[one.noise_multiplier] = counts.get(one.noise_multiplier, 0) + one.participations
    return tuple(Share(participations=count, noise_multiplier=z) for z, count in sorted(counts.items()) if count)


# Asked for each check-in and each admission, with few different answers.
@lru_cache(maxsize=1024)
def count_affordable(noise_multiplier: float, rho_max: float, *, spent: tuple[Spending, ...] = ()) -> int:
    """How often one device may still take part: m = floor(2 z^2 (rho_max - rho spent)), and at least 0."""
    left = to_fraction(rho_max) - compute_rho(spent)
    return max(0, floor(2 * to_fraction(noise_multiplier) ** 2 * left))
