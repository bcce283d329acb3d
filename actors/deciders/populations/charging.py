"""What the ledger makes of a proposal under a population's budget: whether what it says of the busiest can be true.

The ledger knows no devices, only how often the busiest of each task took part. That bounds what any of them has spent:
the busiest of all no less than the busiest of any task, and no more than if one device were the busiest everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, Protocol

from msgspec import UNSET, UnsetType

from actors.deciders.populations.budgets import list_inherited
from schemas.events import PopulationBudgetSet, RoundProposed, TaskCreated
from schemas.policy import Share, compute_rho, to_fraction
from schemas.topics import population_of


@dataclass(slots=True)
class Promise:
    """A budget in force, and the most that was charged to it."""

    allowed: PopulationBudgetSet
    rho: float = 0.0


Promises = dict[str, Promise] | UnsetType  # by population; a ledger without one keeps the digest that it always had


class Booked(Protocol):
    """A task as the ledger has it."""

    @property
    def created(self) -> TaskCreated:
        """Its creation."""
        ...

    @property
    def participations_max(self) -> int:
        """How often its busiest device took part, as the newest proposal had it."""
        ...


def find_promise(promises: Promises, task: str) -> Promise | None:
    """What the population of a task was promised; None where nothing was."""
    return None if promises is UNSET else promises.get(population_of(task))


def judge_busiest(
    promise: Promise | None, proposed: RoundProposed, *, accounts: Iterable[Booked]
) -> Literal["participations", "budget"] | None:
    """Why a proposal cannot be charged to its population; None where it can, or where there is no budget.

    `accounts` are all tasks of the population.
    """
    if promise is None or proposed.busiest is UNSET:
        # An aggregator that knows of a budget, and a ledger that does not, or the other way round: one has been misled.
        return None if promise is None and proposed.busiest is UNSET else "participations"
    spent = compute_rho(proposed.busiest)
    low, high = compute_bounds(proposed, accounts)
    # Floats keep the order of two fractions, or make them equal.
    if not low <= spent <= high or float(spent) < promise.rho:
        return "participations"
    return "budget" if spent > to_fraction(promise.allowed.rho_max) else None


def compute_bounds(proposed: RoundProposed, accounts: Iterable[Booked]) -> tuple[Fraction, Fraction]:
    """The least and the most that the busiest device of a population can have spent, once this round is released."""
    booked = [*accounts]
    inherited = compute_rho(list_inherited(account.created for account in booked))
    least, most = Fraction(0), Fraction(0)
    for account in booked:
        privacy = account.created.policy.privacy
        assert privacy is not None
        is_this, z = account.created.task == proposed.task, privacy.noise_multiplier
        known = proposed.participations_max if is_this else account.participations_max
        least = max(least, compute_rho([Share(participations=known, noise_multiplier=z)]))
        # Each other task may have the device in a round that it has not proposed yet, and in one only.
        most += compute_rho([Share(participations=known + (not is_this), noise_multiplier=z)])
    return inherited + least, inherited + most
