"""Which budget comes into force, and which tasks begin beside it: only what can be promised, and is known."""

from __future__ import annotations

import pytest

from actors.deciders.aggregator_state import Rounds
from actors.deciders.populations.settings import find_misfits, may_be_succeeded, may_set, may_share
from schemas.events import Noticed, PopulationBudgetSet
from schemas.policy import Policy
from tests.worlds.builders import policy, private_policy, spending, task_created
from tests.worlds.identity.budgets import budget_set
from tests.worlds.rounds import AGGREGATOR
from tests.worlds.specification import given

PRIVATE = private_policy(1.0, 50.0)


def begun(*facts: object) -> Rounds:
    """What an aggregator knows after it has noticed these."""
    return given(AGGREGATOR, *(Noticed(fact=fact) for fact in facts)).state  # type: ignore[arg-type]


@pytest.mark.parametrize("rho_max", [float("nan"), float("inf"), -1.0, 0.0, 1e-12, 1e9])
def test_a_budget_is_a_number_that_a_policy_could_have(rho_max: float) -> None:
    """Whatever else is signed is no budget."""
    assert not may_set(begun(), budget_set(rho_max), units=())


def test_an_empty_population_can_have_a_budget() -> None:
    """It is best set before anybody has been asked anything."""
    assert may_set(begun(), budget_set(), units=())


def test_a_budget_is_lowered_and_counts_the_same_units() -> None:
    """No higher one, no equal one, and none that counts otherwise."""
    state = begun(budget_set(2.0))
    tried: dict[PopulationBudgetSet, bool] = {
        budget_set(2.0): False,
        budget_set(3.0): False,
        budget_set(1.0, identity="enrolled"): False,
        budget_set(1.0): True,
        budget_set(3.0, population="town"): True,
    }
    assert {budget: may_set(state, budget, units=()) for budget in tried} == tried


@pytest.mark.parametrize(
    ("rules", "fits"), [(PRIVATE, True), (policy(), False), (private_policy(identity="enrolled"), False)]
)
def test_a_task_of_unknown_cost_and_a_budget_exclude_each_other(rules: Policy, fits: bool) -> None:
    """Whichever comes first."""
    created = task_created(rules, task="city.a")
    assert may_share(begun(budget_set()).budgets, created) is fits
    assert may_set(begun(created), budget_set(), units=()) is fits
    assert (not [*find_misfits(budget_set(), created.task, policy=rules)]) is fits
    # Of another population nothing is asked.
    assert may_share(begun(budget_set(population="town")).budgets, created)


def test_what_was_inherited_counts_before_anybody_has_come() -> None:
    """A task that carries on from elsewhere brings what was spent there."""
    heir = task_created(PRIVATE, task="city.a", parent="before", spent_before=(spending(3, 1.0),))
    assert may_set(begun(heir), budget_set(1.5), units=())
    assert not may_set(begun(heir), budget_set(1.4), units=())
    # And beside what a device has spent here, once at z = 1.
    state = begun(heir)
    state.tasks["city.a"].participations["u"] = 1
    assert may_set(state, budget_set(2.0), units=("u",))
    assert not may_set(state, budget_set(1.9), units=("u",))


@pytest.mark.parametrize(("successor", "stays"), [("city.b", True), ("city", True), ("town.b", False), ("b", False)])
def test_nobody_carries_on_elsewhere_from_under_a_budget(successor: str, stays: bool) -> None:
    """There the same devices would spend what was promised to be all."""
    state = begun(task_created(PRIVATE, task="city.a"), budget_set())
    assert may_be_succeeded(state.budgets, "city.a", successor=successor) is stays
    assert may_be_succeeded(begun().budgets, "city.a", successor=successor)
