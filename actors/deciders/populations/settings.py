"""Which budget of a population comes into force, and which tasks begin under one.

Where a part of what devices lose is not known, nothing is promised, and nothing begins: a task without privacy, or one
that counts keys where others count subjects, has no place beside a budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.deciders.populations.budgets import Budget, Budgets, Sharing, find_budget, list_inherited, list_spent
from schemas.events import PopulationBudgetSet, TaskCreated
from schemas.identifiers import TaskId
from schemas.policy import BOUNDS, Policy, compute_rho, to_fraction
from schemas.topics import population_of

LOW, HIGH = BOUNDS["privacy.rho_max"]


def may_set(state: Sharing, allowed: PopulationBudgetSet, *, units: Iterable[str]) -> bool:
    """Whether this budget comes into force; `units` are all who took part in the population."""
    # In this form of the comparison NaN fails too.
    if not LOW <= allowed.rho_max <= HIGH:
        return False
    known = find_budget(state.budgets, allowed.population)
    is_lower = known is None or (allowed.rho_max < known.allowed.rho_max and allowed.identity == known.allowed.identity)
    mine = [task for name, task in state.tasks.items() if population_of(name) == allowed.population]
    if not is_lower or any(
        True for task in mine for _ in find_misfits(allowed, task.created.task, policy=task.created.policy)
    ):
        return False
    trial = Budget(allowed, [task.created.task for task in mine])
    most = max((compute_rho(list_spent(trial, state.tasks, unit=unit)) for unit in units), default=0)
    inherited = compute_rho(list_inherited(task.created for task in mine))
    # More than it says has been spent: as a promise it would be false from its first day on.
    return max(most, inherited) <= to_fraction(allowed.rho_max)


def may_share(budgets: Budgets, created: TaskCreated) -> bool:
    """Whether a task may begin under the budget of its population, if that has one."""
    budget = find_budget(budgets, created.task)
    return budget is None or not any(True for _ in find_misfits(budget.allowed, created.task, policy=created.policy))


def may_be_succeeded(budgets: Budgets, task: str, *, successor: str) -> bool:
    """Whether `successor` may carry on from a task: from under a budget only in the same population."""
    # Elsewhere the same devices would spend again what this budget has promised them.
    return find_budget(budgets, task) is None or population_of(task) == population_of(successor)


def find_misfits(allowed: PopulationBudgetSet, task: TaskId, *, policy: Policy) -> Iterator[str]:
    """Why a task of this policy cannot be of a population with this budget, in words for the operator."""
    if policy.privacy is None:
        yield f"{task!r} has no privacy, so that what its devices lose is not known"
    counts = "enrolled" if policy.is_enrolled else "open"
    if counts != allowed.identity:
        what = {"open": "keys of devices", "enrolled": "enrolled subjects"}
        yield (
            f"{task!r} counts {what[counts]} (identity = {counts!r}), and the budget of "
            f"{allowed.population!r} {what[allowed.identity]}"
        )
