"""The ledger and a population's budget: it knows no devices, and still believes no number that cannot be."""

from __future__ import annotations

from typing import Any

import pytest

from actors.deciders.privacy_budget import PRIVACY_BUDGET
from schemas.events import BudgetExhausted, Noticed, PopulationCharge, RoundCharged, RoundProposed, RoundWithheld
from schemas.policy import Share
from tests.worlds.builders import (
    mechanism,
    private_policy,
    round_proposed,
    spending,
    task_created,
)
from tests.worlds.identity.budgets import budget_set
from tests.worlds.specification import given

RULES = private_policy(1.0, 50.0)
A, B = (task_created(RULES, task=f"city.{name}") for name in "ab")


def begun(*more: Any, rho_max: float = 2.0) -> Any:
    """Two tasks of one population, and its budget."""
    return given(PRIVACY_BUDGET, *(Noticed(fact=fact) for fact in (A, B, budget_set(rho_max), *more)))


def proposed(round_id: int, participations: int, busiest: Any, *, task: str = "city.a") -> RoundProposed:
    """A round of a task, whose population's busiest took part so often, all at z = 1."""
    shares = (Share(participations=busiest, noise_multiplier=1.0),) if isinstance(busiest, int) else busiest
    changes = {} if busiest is None else {"busiest": shares}
    return round_proposed(round_id, task=task, mechanism=mechanism(RULES), participations_max=participations, **changes)


def outcome(situation: Any, fact: RoundProposed) -> str:
    """What became of it: charged, or the reason."""
    [event, *_] = PRIVACY_BUDGET.decide(situation.state, fact, 0)
    return event.reason if isinstance(event, RoundWithheld) else "charged"


def test_a_charge_says_what_the_population_has_spent() -> None:
    """The task's own total, and beside it that of the busiest device over all tasks."""
    [charged] = PRIVACY_BUDGET.decide(begun().when(proposed(0, 1, 1)).state, proposed(0, 1, 2, task="city.b"), 0)
    assert isinstance(charged, RoundCharged)
    assert charged.rho_total == 0.5
    assert isinstance(charged.population, PopulationCharge)
    assert (charged.population.rho_spent, charged.population.rho_max) == (1.0, 2.0)
    assert charged.population.epsilon > charged.epsilon


@pytest.mark.parametrize(
    ("busiest", "expected"),
    [
        (1, "participations"),  # less than the busiest of this task alone
        (2, "charged"),  # nobody but the busiest here
        (3, "charged"),  # once in the other task as well
        (4, "participations"),  # twice there, where nothing was proposed yet
        (None, "participations"),  # an aggregator that knows of no budget
    ],
)
def test_the_busiest_is_believed_within_what_can_be(busiest: int | None, expected: str) -> None:
    """No less than the busiest of any task, and no more than if one device were the busiest of all."""
    situation = begun().when(proposed(0, 1, 1))
    assert outcome(situation, proposed(1, 2, busiest)) == expected


def test_a_total_never_falls() -> None:
    """What was charged to a population is spent, whatever a later proposal says."""
    situation = begun().when(proposed(0, 1, 1)).when(proposed(0, 1, 2, task="city.b"))
    assert outcome(situation, proposed(1, 1, 1)) == "participations"
    assert outcome(situation, proposed(1, 1, 2)) == "charged"


def test_a_budget_can_be_spent_whole_and_no_further() -> None:
    """A round beyond it is withheld, with the exhaustion."""
    situation = begun(rho_max=1.0).when(proposed(0, 1, 1)).when(proposed(1, 2, 2))
    withheld, exhausted = PRIVACY_BUDGET.decide(situation.state, proposed(2, 3, 3), 0)
    assert isinstance(withheld, RoundWithheld)
    assert withheld.reason == "budget"
    assert exhausted == BudgetExhausted(task="city.a", rho_total=1.5, rho_max=1.0)


def test_a_busiest_device_without_a_budget_is_withheld() -> None:
    """An aggregator that speaks of a budget which this ledger does not know has been told otherwise."""
    situation = given(PRIVACY_BUDGET, Noticed(fact=A))
    assert outcome(situation, proposed(0, 1, 1)) == "participations"
    assert outcome(situation, proposed(0, 1, None)) == "charged"


def test_a_copy_of_an_old_budget_raises_nothing() -> None:
    """The operator has signed both; only the lower one counts."""
    situation = begun(rho_max=1.0)
    for rho_max, heard in ((3.0, False), (1.0, False), (0.5, True)):
        fact = Noticed(fact=budget_set(rho_max))
        assert PRIVACY_BUDGET.decide(situation.state, fact, 0) == ([fact] if heard else [])


def test_what_other_populations_have_spent_counts_once() -> None:
    """Two tasks that carry on from one ancestor elsewhere: what it released it released once."""
    before = task_created(RULES, task="city.c", parent="before", spent_before=(spending(2, 1.0),))
    again = task_created(RULES, task="city.d", parent="before", spent_before=(spending(3, 1.0),))
    situation = begun(before, again)
    assert [outcome(situation, proposed(0, 1, count)) for count in (3, 4)] == ["participations", "charged"]
