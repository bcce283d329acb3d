"""What an operator promises a population: in force when the command ends, or refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from ops.history.following import Follower
from ops.operator import tasks
from ops.operator.errors import BudgetRefused, BudgetUnnoticed, OutsideBudget
from ops.operator.populations import budgets
from schemas.events import DeploymentFounded, Noticed, PopulationBudgetSet
from schemas.topics import ROUNDS, TASKS
from streams.log import Draft, Record
from tests.worlds.builders import DEPLOYMENT, KEY, policy, private_policy, written
from tests.worlds.identity.budgets import City, budget_set, rules_of


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> City:
    """A population with one task, whose actors run while somebody waits for them."""
    city = City({"city.a": rules_of(1.0)})
    city.log.append([Draft(topic=TASKS.name, partition=0, value=written(DeploymentFounded(deployment=DEPLOYMENT)))])

    class Settling(Follower):
        def poll(self, timeout_s: float = 0.5) -> list[Record]:
            city.settle()
            return super().poll(0.0)

    # There alone: a follower of another log, in another thread, must not run these actors a second time.
    monkeypatch.setattr(budgets, "Follower", Settling)
    return city


def set_to(world: City, rho_max: float, *, identity: str = "open", wait_s: float = 60.0) -> PopulationBudgetSet:
    """As `fedlog population budget city` does."""
    wanted = budgets.make_budget(world.log, "city", rho_max=rho_max, identity=identity, key=KEY)
    return budgets.set_budget(world.log, wanted, key=KEY, wait_s=wait_s)


def in_force(world: City) -> list[float]:
    """What the aggregator has taken."""
    noticed = [event.fact for event in world.events(ROUNDS.name, Noticed)]
    return [fact.rho_max for fact in noticed if isinstance(fact, PopulationBudgetSet)]


def test_a_budget_is_in_force_when_the_command_ends(world: City) -> None:
    """And given again it changes nothing; what is spent of it is listed."""
    for _ in range(2):
        set_to(world, 2.0)
    assert in_force(world) == [2.0]
    world.take_part("city.a", "x", "y")
    views = tasks.make_views(world.log, KEY.public_key)
    with Follower(world.log, views, partitions=[world.partition]) as follower:
        follower.catch_up()
    [standing] = budgets.list_standings(views)
    assert (standing.budget.rho_max, standing.rho_spent, standing.tasks) == (2.0, 0.5, ("city.a",))
    shown = tasks.summarize(views.tasks["city.a"])
    assert (shown["population_rho"], shown["population_rho_max"]) == (0.5, 2.0)


def test_what_cannot_be_promised_is_refused_with_the_reason(world: City) -> None:
    """Nothing is signed then."""
    set_to(world, 2.0)
    world.take_part("city.a", "x", "y")
    for rho_max, identity, reason in ((3.0, "open", "never raised"), (0.4, "open", "has spent rho 0.5")):
        with pytest.raises(BudgetRefused, match=reason):
            set_to(world, rho_max, identity=identity)
    with pytest.raises(BudgetRefused, match="counts keys of devices"):
        set_to(world, 1.0, identity="enrolled")
    with pytest.raises(BudgetRefused, match="must be from"):
        set_to(world, 0.0)
    with pytest.raises(BudgetRefused, match="is no population"):
        budgets.make_budget(world.log, "city.a", rho_max=1.0, identity="open", key=KEY)
    assert in_force(world) == [2.0]


def test_an_aggregator_that_does_not_answer_is_named(world: City, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget is signed, and whoever waits is told that it is not known to count."""
    monkeypatch.setattr(world, "settle", lambda: None)
    with pytest.raises(BudgetUnnoticed, match="not taken it within"):
        set_to(world, 2.0, wait_s=0.0)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (policy(), "has no privacy"),
        (private_policy(identity="enrolled"), "counts enrolled subjects"),
        (private_policy(0.1, 50.0), "one participation costs 50"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_before_anything_is_written(world: City, rules: Any, reason: str) -> None:
    """A person hears why; the aggregator would only pass it over."""
    set_to(world, 2.0)
    with pytest.raises(OutsideBudget, match=reason):
        budgets.check_task(world.log, "city.b", policy=rules, operator=KEY.public_key)
    budgets.check_task(world.log, "town.b", policy=rules, operator=KEY.public_key)


def test_a_successor_stays_in_the_population(world: City) -> None:
    """Before the parent is closed, which nothing takes back."""
    budgets.check_succession(world.log, "city.a", successor="town", operator=KEY.public_key)
    set_to(world, 2.0)
    budgets.check_succession(world.log, "city.a", successor="city.b", operator=KEY.public_key)
    with pytest.raises(OutsideBudget, match=r"Name it city\.town"):
        budgets.check_succession(world.log, "city.a", successor="town", operator=KEY.public_key)


def test_the_lowest_that_was_signed_binds(world: City) -> None:
    """Also before the aggregator has noticed it."""
    assert budgets.find_signed(world.log, "city", operator=KEY.public_key) is None
    for rho_max in (3.0, 1.0, 2.0):
        tasks._append(world.log, budget_set(rho_max), key=KEY)
    signed = budgets.find_signed(world.log, "city", operator=KEY.public_key)
    assert signed is not None
    assert signed.rho_max == 1.0
