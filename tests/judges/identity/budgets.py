"""What each device of a population has spent, counted by itself from the admissions, and what the ledger said of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

from schemas.events import (
    Noticed,
    PopulationBudgetSet,
    RoundCharged,
    RoundProposed,
    TaskCreated,
    TaskSucceeded,
    UpdateAdmitted,
)
from schemas.topics import LEDGER, ROUNDS
from tests.judges.logbook import Logbook


@dataclass(slots=True)
class _Population:
    """The tasks so far, who has spent what, and the budget in force."""

    tasks: dict[str, TaskCreated] = field(default_factory=dict)
    spent: dict[str, Fraction] = field(default_factory=dict)
    budget: PopulationBudgetSet | None = None

    def inherited(self) -> Fraction:
        """What its tasks had spent under other names before they began here."""
        found: dict[tuple[str, float], int] = {}
        for created in self.tasks.values():
            for one in created.spent_before:
                if one.task not in self.tasks:
                    key = one.task, one.noise_multiplier
                    found[key] = max(found.get(key, 0), one.participations)
        return sum((count * _cost(z) for (_, z), count in found.items()), Fraction(0))

    def most(self) -> Fraction:
        return self.inherited() + max(self.spent.values(), default=Fraction(0))


def budget_faults(book: Logbook) -> Iterator[str]:
    """Under a budget nobody spends more, the busiest is named, each charge says it, and nothing unknown is released."""
    populations: dict[str, _Population] = {}
    expected: dict[tuple[str, int], tuple[float, float]] = {}
    for event in book.rounds.events(Noticed, UpdateAdmitted, RoundProposed):
        fact = event.fact if isinstance(event, Noticed) else event
        name = getattr(fact, "population", None) or getattr(fact, "task", "").partition(".")[0]
        mine = populations.setdefault(name, _Population())
        for fault in _follow(mine, fact):
            yield f"{ROUNDS.name}: population {name}: {fault}"
        if isinstance(fact, RoundProposed) and mine.budget is not None:
            expected[fact.task, fact.round] = float(mine.most()), mine.budget.rho_max
    for charge in book.ledger.events(RoundCharged):
        told = (charge.population.rho_spent, charge.population.rho_max) if charge.population else None
        if told != expected.get((charge.task, charge.round)):
            counted = expected.get((charge.task, charge.round))
            yield f"{LEDGER.name}: {charge.task}: round {charge.round} says {told} of its population, counted {counted}"


def _follow(mine: _Population, fact: object) -> Iterator[str]:
    match fact:
        case TaskCreated():
            mine.tasks[fact.task] = fact
            if mine.budget is not None and not _belongs(mine.budget, fact):
                yield f"{fact.task} begins beside a budget, and what it costs is not known"
        case TaskSucceeded():
            if mine.budget is not None and fact.successor.partition(".")[0] != mine.budget.population:
                yield f"{fact.successor} takes its people away from a budget"
        case PopulationBudgetSet():
            yield from _set(mine, fact)
        case UpdateAdmitted():
            privacy, unit = mine.tasks[fact.task].policy.privacy, fact.subject or fact.device
            cost = Fraction(0) if privacy is None else _cost(privacy.noise_multiplier)
            mine.spent[unit] = mine.spent.get(unit, Fraction(0)) + cost
            if mine.budget is not None and mine.inherited() + mine.spent[unit] > Fraction(repr(mine.budget.rho_max)):
                yield f"{unit} spends {float(mine.spent[unit])} of {mine.budget.rho_max}"
        case RoundProposed():
            yield from _judge_proposal(mine, fact)


def _judge_proposal(mine: _Population, proposed: RoundProposed) -> Iterator[str]:
    where = f"{proposed.task}: round {proposed.round}"
    told = [(one.participations, one.noise_multiplier) for one in proposed.busiest or ()]
    if bool(proposed.busiest) != (mine.budget is not None):
        yield f"{where} names the busiest device, and there is no budget, or the reverse"
    elif mine.budget is not None and sum((count * _cost(z) for count, z in told), Fraction(0)) != mine.most():
        yield f"{where}: {told} is not what the busiest device has spent"


def _set(mine: _Population, budget: PopulationBudgetSet) -> Iterator[str]:
    if mine.budget is not None and budget.rho_max >= mine.budget.rho_max:
        yield f"a budget of {mine.budget.rho_max} becomes one of {budget.rho_max}"
    if any(not _belongs(budget, created) for created in mine.tasks.values()):
        yield "a budget beside a task whose cost is not known"
    mine.budget = budget
    if mine.most() > Fraction(repr(budget.rho_max)):
        yield f"a budget of {budget.rho_max}, and {float(mine.most())} is spent"


def _belongs(budget: PopulationBudgetSet, created: TaskCreated) -> bool:
    counts = "enrolled" if created.policy.identity == "enrolled" else "open"
    return created.policy.privacy is not None and counts == budget.identity


def _cost(noise_multiplier: float) -> Fraction:
    return 1 / (2 * Fraction(repr(noise_multiplier)) ** 2)
