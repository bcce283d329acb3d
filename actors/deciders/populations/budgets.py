"""What a device, or the subject of enrolled ones, has spent over the tasks of its population.

Its loss is the sum over the releases that it is in: p participations at noise multiplier z cost p / (2 z^2), whatever
the task. Tasks on other devices cost it nothing, so that the budget is spent by each device for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from msgspec import UNSET, UnsetType

from schemas.events import PopulationBudgetSet, TaskCreated
from schemas.policy import Share, Spending, compute_rho, join_shares, to_fraction
from schemas.topics import population_of


class Taken(Protocol):
    """A task, and who took part in it how often."""

    @property
    def created(self) -> TaskCreated:
        """Its creation."""
        ...

    def count_participations(self, unit: str) -> int:
        """How often this device or subject did."""
        ...


@dataclass(slots=True)
class Budget:
    """A budget in force, the tasks of its population, and what the device that has spent most has spent."""

    allowed: PopulationBudgetSet
    tasks: list[str]
    busiest: tuple[Share, ...] = ()


NOBODY = ""  # a device that has never come: it has spent what was inherited
Budgets = dict[str, Budget] | UnsetType  # by population; a state without one keeps the digest that it always had


class Sharing(Protocol):
    """The tasks of one partition, and the budgets of its populations."""

    @property
    def tasks(self) -> Mapping[str, Taken]:
        """By name."""
        ...

    @property
    def budgets(self) -> Budgets:
        """By population."""
        ...


def find_budget(budgets: Budgets, task: str) -> Budget | None:
    """The budget of a task's population; None where it has none."""
    return None if budgets is UNSET else budgets.get(population_of(task))


def set_budget(budgets: Budgets, allowed: PopulationBudgetSet, *, tasks: Iterable[str]) -> dict[str, Budget]:
    """The same budgets with this one in force, over those of the tasks that are of its population."""
    kept = {} if budgets is UNSET else budgets
    shared = [name for name in tasks if population_of(name) == allowed.population]
    busiest = kept[allowed.population].busiest if allowed.population in kept else ()
    return {**kept, allowed.population: Budget(allowed, shared, busiest)}


def list_spent(
    budget: Budget, tasks: Mapping[str, Taken], *, unit: str, once_more: TaskCreated | None = None
) -> tuple[Share, ...]:
    """What this device has spent, with `once_more` as it will be when it has taken part there again."""
    spent: list[Spending | Share] = [*list_inherited(tasks[name].created for name in budget.tasks)]
    for name in budget.tasks:
        created = tasks[name].created
        taken = tasks[name].count_participations(unit) + (once_more is not None and once_more.task == name)
        if created.policy.privacy is not None and taken:
            spent.append(Share(participations=taken, noise_multiplier=created.policy.privacy.noise_multiplier))
    return join_shares(spent)


def list_inherited(created: Iterable[TaskCreated]) -> list[Spending]:
    """What tasks of other populations had spent, from which these carry on: it counts against every device."""
    tasks = [*created]
    found: dict[str, Spending] = {}
    for spent in (spent for task in tasks for spent in task.spent_before):
        known = found.get(spent.task)
        # Two tasks may name one ancestor, which released what it released once.
        if known is None or known.participations < spent.participations:
            found[spent.task] = spent
    # Of the population's own tasks each device's participations are known.
    return [spent for name, spent in found.items() if name not in {task.task for task in tasks}]


def pays_for(budget: Budget, spent: tuple[Share, ...], *, created: TaskCreated) -> bool:
    """Whether a device that has spent this may take part in the task once more, in exact fractions."""
    privacy = created.policy.privacy
    # Under a budget there is no task without privacy; if there were, nothing could pay for it.
    return privacy is not None and _is_within(
        spent, noise_multiplier=privacy.noise_multiplier, rho_max=budget.allowed.rho_max
    )


# Asked for every task of a population at each admission, with few different answers.
@lru_cache(maxsize=4096)
def _is_within(spent: tuple[Share, ...], *, noise_multiplier: float, rho_max: float) -> bool:
    once = Share(participations=1, noise_multiplier=noise_multiplier)
    return compute_rho([*spent, once]) <= to_fraction(rho_max)


def is_exhausted(state: Sharing, task: Taken, *, unit: str, more: int = 0) -> bool:
    """Whether a device can take part no more, by the task's own cap or by its population's budget.

    With `more` = 1 as it will be once the device has taken part there again.
    """
    budget, once_more = find_budget(state.budgets, task.created.task), task.created if more else None
    spent = () if budget is None else list_spent(budget, state.tasks, unit=unit, once_more=once_more)
    return is_past(budget, task, taken=task.count_participations(unit) + more, spent=spent)


def is_past(budget: Budget | None, task: Taken, *, taken: int, spent: tuple[Share, ...]) -> bool:
    """Whether a device that took part in the task so often, and has spent this in all, can no more."""
    cap = task.created.participations_cap
    is_capped = cap is not None and taken >= cap
    return is_capped or (budget is not None and not pays_for(budget, spent, created=task.created))


def find_busier(one: tuple[Share, ...], other: tuple[Share, ...]) -> tuple[Share, ...]:
    """Whichever has spent more; the first where both have spent as much."""
    return other if one != other and compute_rho(other) > compute_rho(one) else one


def find_busiest(state: Sharing, budget: Budget, *, created: TaskCreated, unit: str | None) -> tuple[Share, ...]:
    """What the busiest device has spent, with one more participation of `unit` that the state has not folded yet."""
    if unit is None:
        return budget.busiest
    spent = list_spent(budget, state.tasks, unit=unit, once_more=created)
    return find_busier(budget.busiest, spent)
