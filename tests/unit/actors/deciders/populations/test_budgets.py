"""One budget for the people behind several tasks: whatever the tasks do, nobody spends more than was promised."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.deciders.decider import digest
from schemas.events import (
    CheckinsDeclined,
    ModelPublished,
    Noticed,
    PopulationBudgetSet,
    RoundCharged,
    RoundProposed,
    TaskCreated,
    UpdateAdmitted,
)
from schemas.policy import Policy, to_fraction
from schemas.topics import LEDGER, ROUNDS, SELECTIONS, TASKS
from tests.judges.lawcheck import check
from tests.worlds.builders import policy, written
from tests.worlds.federation import Federation, ScriptedDevice, find_refusals, open_actor
from tests.worlds.identity.budgets import City, budget_set, rules_of


def noticed(world: Federation, topic: str, kind: type[Any]) -> list[Any]:
    """What an actor has taken over, of this kind."""
    return [event.fact for event in world.events(topic, Noticed) if isinstance(event.fact, kind)]


def test_two_tasks_share_what_their_devices_may_spend() -> None:
    """Two participations at z = 1 cost 1 of 1: one in each task, and there is no third in either."""
    world = City({"city.a": rules_of(1.0), "city.b": rules_of(1.0)}, budget_set(1.0))
    for _ in range(2):
        for task in world.city:
            world.take_part(task, "x", "y")
    assert world.count_spent() == dict.fromkeys(world.count_spent(), 1)
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 0, 1, 1]
    declined = [event.counts for event in world.events(SELECTIONS.name, CheckinsDeclined)]
    assert declined == 4 * [{"participations": 1}]
    assert not check(world.log, world.partition, settled=True)


def test_a_budget_is_each_devices_own() -> None:
    """Tasks on other devices cost nobody anything: what is charged is the busiest device, not the sum of tasks."""
    world = City({"city.a": rules_of(1.0), "city.b": rules_of(1.0)}, budget_set(1.0))
    world.take_part("city.a", "x", "y")
    world.take_part("city.b", "u", "v")
    world.take_part("city.b", "w", "x")
    charges = [event.population for event in world.events(LEDGER.name, RoundCharged)]
    assert [charge.rho_spent for charge in charges] == [0.5, 0.5, 1.0]
    assert [charge.rho_max for charge in charges] == [1.0] * 3
    assert charges[0].epsilon == world.events(LEDGER.name, RoundCharged)[0].epsilon


def test_an_update_that_comes_too_late_for_the_budget_is_refused() -> None:
    """A device with a lease in each task may train twice, and counts once where there is room for one."""
    world = City({"city.a": rules_of(1.0), "city.b": rules_of(1.0)}, budget_set(0.5))
    device = ScriptedDevice("x", world.log, task="city.a", sent_ms=world.sent_ms)
    device.check_in()
    world.settle()
    held = device.granted()
    world.take_part("city.b", "x")
    device.submit(np.ones(4, np.float32), world.rules, lease=held)
    world.settle()
    assert find_refusals(world) == ["participations"]


def test_a_task_whose_devices_are_spent_elsewhere_ends() -> None:
    """What others have used up is no reason to wait for ever."""
    rules = rules_of(1.0, selection={"devices_expected": 2, "concurrency": 6}, aggregation={"updates_per_round": 1})
    world = City({"city.a": rules, "city.b": rules}, budget_set(1.0))
    for task in ("city.a", "city.a", "city.b", "city.b"):
        world.take_part(task, "x", "y")
    assert [type(event).__name__ for event in world.events(ROUNDS.name)][-1] != "RoundOpened"
    assert max(world.count_spent().values()) == 1


def test_a_measurement_is_paid_from_the_same_budget() -> None:
    """A question is a release like any other: whoever has answered it has so much less left for training."""
    statistics = {"old": {"bound": 1.0, "shape": (4,)}}
    question = rules_of(
        2.0,
        kind="measure",
        measure={"plugin": "tests.learners:answer", "statistics": statistics},
        compression={"codec": "float32", "error_feedback": False},
        staleness={"rule": "constant"},
    )
    world = City({"city.a": rules_of(1.0), "city.ask": question}, budget_set(0.625))
    world.take_part("city.ask", "x", "y")
    for _ in range(2):
        world.take_part("city.a", "x", "y")
    assert set(world.count_spent().values()) == {Fraction(5, 8)}
    charges = [event.population for event in world.events(LEDGER.name, RoundCharged)]
    assert [charge.rho_spent for charge in charges] == [0.125, 0.625]
    assert not check(world.log, world.partition, settled=True)


def test_without_a_budget_each_task_has_its_own() -> None:
    """Nothing of it stands in any event, and no state has another digest than before."""
    world = City({"city.a": rules_of(1.0), "city.b": rules_of(1.0)})
    for task in world.city:
        world.take_part(task, "x", "y")
    assert all(not event.population for event in world.events(LEDGER.name, RoundCharged))
    assert all(not event.busiest for event in world.events(ROUNDS.name, RoundProposed))


@pytest.mark.parametrize(
    "rules", [policy(), rules_of(1.0, identity="enrolled")], ids=["without privacy", "counting subjects"]
)
def test_a_task_of_unknown_loss_does_not_begin(rules: Policy) -> None:
    """Under a budget whatever cannot be added up is refused."""
    world = City({"city.a": rules_of(1.0), "city.b": rules}, budget_set())
    assert [created.task for created in noticed(world, ROUNDS.name, TaskCreated)] == ["city.a"]


@pytest.mark.parametrize(
    ("rules", "budget"),
    [
        (policy(), budget_set()),
        (rules_of(1.0), budget_set(identity="enrolled")),
        (rules_of(1.0), budget_set(0.4)),
        (rules_of(1.0), budget_set(1e-12)),
        (rules_of(1.0), budget_set(population="town")),
    ],
    ids=["a task without privacy", "another unit", "less than was spent", "out of bounds", "another partition"],
)
def test_a_budget_that_would_be_false_is_not_taken(rules: Policy, budget: PopulationBudgetSet) -> None:
    """What is in force is true: nobody has spent more already, and all of what is spent is known."""
    world = City({"city.a": rules})
    world.take_part("city.a", "x", "y")
    world.append(TASKS.name, written(budget))
    world.settle()
    assert not noticed(world, ROUNDS.name, PopulationBudgetSet)


def test_a_budget_is_only_lowered() -> None:
    """A higher one, or a copy of an old one, changes nothing; a lower one binds from its place on."""
    world = City({"city.a": rules_of(1.0)}, budget_set(3.0))
    for rho_max in (4.0, 3.0, 1.0, 3.0, 2.0):
        world.append(TASKS.name, written(budget_set(rho_max)))
    world.settle()
    for topic in (ROUNDS.name, LEDGER.name, SELECTIONS.name):
        assert [budget.rho_max for budget in noticed(world, topic, PopulationBudgetSet)] == [3.0, 1.0]
    for _ in range(3):
        world.take_part("city.a", "x", "y")
    assert set(world.count_spent().values()) == {1}


def test_what_was_spent_before_the_budget_counts() -> None:
    """A budget that comes later binds over all that its devices have spent since the population's first task."""
    world = City({"city.a": rules_of(1.0), "city.b": rules_of(1.0)})
    world.take_part("city.a", "x", "y")
    world.append(TASKS.name, written(budget_set(1.0)))
    world.settle()
    for _ in range(2):
        world.take_part("city.b", "x", "z")
    assert {world.count_spent()[device] for device in world.count_spent()} == {Fraction(1, 2), Fraction(1)}


MOVES = st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 3), min_size=1)), min_size=1, max_size=12)
NOISE = st.sampled_from([0.7, 1.0, 1.1, 2.5])


@settings(max_examples=12, deadline=None)
@given(
    moves=MOVES,
    noise=st.tuples(NOISE, NOISE, NOISE),
    rho_max=st.sampled_from([0.3, 0.5, 1.0, 1.3, 2.1]),
    late=st.integers(0, 12),
)
def test_nobody_ever_spends_more_than_the_budget(
    moves: list[tuple[int, set[int]]], noise: tuple[float, float, float], rho_max: float, late: int
) -> None:
    """Three tasks at any noise in any order, the budget first or later: recounted from admissions, charged exactly."""
    world = City({f"city.{name}": rules_of(z) for name, z in zip("abc", noise, strict=True)})
    for number, (task, devices) in enumerate(moves):
        if number == late:
            world.append(TASKS.name, written(budget_set(rho_max)))
            world.settle()
        world.take_part(f"city.{'abc'[task]}", *(f"d{device}" for device in devices))
    in_force = noticed(world, ROUNDS.name, PopulationBudgetSet)
    if in_force:
        assert max(world.count_spent().values(), default=Fraction(0)) <= to_fraction(rho_max)
    charges = world.events(LEDGER.name, RoundCharged)
    assert [charge.population.rho_spent for charge in charges if charge.population] == [*recount(world)]
    assert not check(world.log, world.partition, settled=True)
    for name in world.actors:
        assert digest(open_actor(world, name, whole=True).state) == digest(world.actors[name].state)


def recount(world: City) -> Iterator[float]:
    """The most that any device had spent at each proposal under a budget, by admissions alone."""
    spent: dict[str, Fraction] = {}
    for event in world.events(ROUNDS.name, UpdateAdmitted, RoundProposed):
        if isinstance(event, UpdateAdmitted):
            privacy = world.city[event.task].privacy
            assert privacy is not None
            cost = 1 / (2 * to_fraction(privacy.noise_multiplier) ** 2)
            spent[event.device] = spent.get(event.device, Fraction(0)) + cost
        elif event.busiest:
            yield float(max(spent.values()))
