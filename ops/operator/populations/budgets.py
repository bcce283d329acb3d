"""Sets what the devices of a population may spend over all of its tasks, and says how much of it is spent.

The aggregator decides whether a budget comes into force (`actors.deciders.populations`): here it is asked beforehand,
so that people are told why, and waited for, so that they know when it counts.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from actors.deciders.populations.budgets import NOBODY, Budget, list_spent
from actors.deciders.populations.settings import HIGH, LOW, find_misfits
from actors.keys import Author
from ops.history.following import Follower
from ops.history.projections import TaskViews
from ops.history.task_view import TaskView
from ops.operator import deployments
from ops.operator.errors import BudgetRefused, BudgetUnnoticed, OutsideBudget
from schemas.creations import parse_task_event
from schemas.events import PopulationBudgetSet, TaskCreated
from schemas.policy import Policy, Share, compute_rho, to_fraction
from schemas.topics import TASKS, partition_of, population_of
from streams.log import Draft, EventLog, TopicPartition, scan

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A population with a budget: the budget, its tasks, and what its busiest device has spent by the last charge."""

    budget: PopulationBudgetSet
    tasks: tuple[str, ...]
    rho_spent: float


@dataclass(frozen=True, slots=True)
class _Counted:
    """A task as a console sees it, and who took part."""

    created: TaskCreated
    participations: Counter[str]

    def count_participations(self, unit: str) -> int:
        """How often this device did."""
        return self.participations[unit]


def set_budget(
    log: EventLog, wanted: PopulationBudgetSet, *, key: Author, wait_s: float = WAIT_S
) -> PopulationBudgetSet:
    """Sign this budget, and wait until it is in force. Raises BudgetRefused, BudgetUnnoticed."""
    place = partition_of(wanted.population, log.partitions)
    views = TaskViews(operator=key.public_key, deployment=wanted.deployment)
    with Follower(log, views, partitions=[place]) as follower:
        follower.catch_up()
        # A command that is given again adds nothing.
        if views.budgets.get(wanted.population) == wanted:
            return wanted
        if faults := [*_find_faults(views, wanted)]:
            raise BudgetRefused("\n".join(faults))
        log.append([Draft(topic=TASKS.name, partition=place, value=key.write(wanted), key=wanted.population.encode())])
        give_up_s = time.monotonic() + wait_s
        while views.budgets.get(wanted.population) != wanted:
            if time.monotonic() > give_up_s:
                raise BudgetUnnoticed(
                    f"The budget of {wanted.population!r} is signed, and the aggregator has not taken it within "
                    f"{wait_s:g} s: it is not running, or its devices have spent more by now."
                )
            # The aggregator answers in its own journal, so there is nothing to ask it directly.
            follower.poll(0.2)
    return wanted


def make_budget(log: EventLog, population: str, *, rho_max: float, identity: str, key: Author) -> PopulationBudgetSet:
    """The event that says so. Raises BudgetRefused."""
    if not NAME.fullmatch(population):
        raise BudgetRefused(f"{population!r} is no population: the part before the dot of its tasks' names.")
    if not LOW <= rho_max <= HIGH:
        raise BudgetRefused(f"rho_max {rho_max:g} must be from {LOW:g} to {HIGH:g}.")
    return PopulationBudgetSet(
        population=population,
        deployment=deployments.name_deployment(log, key),
        rho_max=float(rho_max),
        identity=identity,  # type: ignore[arg-type]
        asked_by=key.asked_by,
    )


def _find_faults(views: TaskViews, wanted: PopulationBudgetSet) -> Iterator[str]:
    known = views.budgets.get(wanted.population)
    if known is not None and wanted.rho_max >= known.rho_max:
        yield f"{wanted.population!r} was promised rho {known.rho_max:g}: a budget can be lowered, and never raised."
    if known is not None and wanted.identity != known.identity:
        yield f"The budget of {wanted.population!r} counts by identity {known.identity!r}, and stays so."
    # By keys alone: which of them are one subject stands in admissions, which the aggregator counts.
    counted = _count(views, wanted.population)
    for name, each in counted.items():
        yield from (f"{fault}." for fault in find_misfits(wanted, name, policy=each.created.policy))
    trial = Budget(wanted, [*counted])
    units = {unit for each in counted.values() for unit in each.participations}
    most = max(
        (compute_rho(list_spent(trial, counted, unit=unit)) for unit in [NOBODY, *units]), default=to_fraction(0.0)
    )
    if most > to_fraction(wanted.rho_max):
        yield f"The busiest device of {wanted.population!r} has spent rho {float(most):g}, more than that."


def _count(views: TaskViews, population: str) -> dict[str, _Counted]:
    mine = {name: view for name, view in views.tasks.items() if population_of(name) == population}
    return {name: _Counted(view.created, view.participations) for name, view in mine.items() if view.created}


def list_standings(views: TaskViews) -> list[Standing]:
    """Every population with a budget in force, by name."""
    return [
        Standing(budget, tuple(sorted(mine)), _find_spent(mine))
        for name, budget in sorted(views.budgets.items())
        for mine in [{task: view for task, view in views.tasks.items() if population_of(task) == name}]
    ]


def _find_spent(views: Mapping[str, TaskView]) -> float:
    # Totals only grow, so that the largest is the newest, whichever task it is of.
    charges = (charge.population for view in views.values() for charge in view.charges)
    return max((charge.rho_spent for charge in charges if charge), default=0.0)


def find_signed(log: EventLog, population: str, *, operator: bytes | None) -> PopulationBudgetSet | None:
    """The lowest budget that the operator has signed for a population here; None where there is none."""
    deployment = deployments.find(log, operator)
    records = scan(log, TopicPartition(TASKS.name, partition_of(population, log.partitions)))
    signed = [
        event
        for event in (parse_task_event(record, operator) for record in records)
        if isinstance(event, PopulationBudgetSet) and event.population == population
    ]
    # What the operator said of another deployment is nothing here.
    here = [event for event in signed if deployment in (None, event.deployment)]
    return min(here, key=lambda event: event.rho_max, default=None)


def check_task(log: EventLog, name: str, *, policy: Policy, operator: bytes) -> None:
    """Raises OutsideBudget for a task that would not begin beside the budget of its population."""
    signed = find_signed(log, population_of(name), operator=operator)
    faults = [] if signed is None else [*find_misfits(signed, name, policy=policy)]
    # A task that nobody can take part in would begin, and end.
    if signed is not None and policy.privacy is not None:
        once = compute_rho([Share(participations=1, noise_multiplier=policy.privacy.noise_multiplier)])
        faults += [f"one participation costs {float(once):g}"] if once > to_fraction(signed.rho_max) else []
    if signed is not None and faults:
        raise OutsideBudget(f"{signed.population!r} has a budget of rho {signed.rho_max:g}: {'; '.join(faults)}.")


def check_succession(log: EventLog, parent: str, *, successor: str, operator: bytes) -> None:
    """Raises OutsideBudget for a successor that would take devices away from their budget."""
    # Asked before the parent is closed, which nothing takes back.
    home = population_of(parent)
    if home == population_of(successor) or find_signed(log, home, operator=operator) is None:
        return
    raise OutsideBudget(
        f"{home!r} has a budget, and {successor!r} is of another population: what its devices spend there would count "
        f"nowhere. Name it {home}.{population_of(successor)}."
    )
