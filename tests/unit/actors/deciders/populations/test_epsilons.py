"""What ledgers say, beside other accounting: rho recounted from admissions, epsilon by dp-accounting's PLD."""

from __future__ import annotations

from fractions import Fraction

import msgspec
import pytest

from schemas.events import RoundCharged
from schemas.policy import Policy
from schemas.topics import LEDGER
from tests.judges.identity.budgets import budget_faults
from tests.judges.identity.epsilons import epsilon_faults
from tests.judges.lawcheck import check
from tests.judges.logbook import read
from tests.worlds.forging import forge_event
from tests.worlds.identity.budgets import City, budget_set, rules_of

TRAINING = rules_of(1.0)
TELLING = rules_of(1.5, evaluation={"report": ("loss",), "report_bounds": {"loss": 4.0}})
QUESTION = rules_of(
    2.0,
    kind="measure",
    measure={"plugin": "tests.learners:answer", "statistics": {"old": {"bound": 1.0, "shape": (4,)}}},
    compression={"codec": "float32", "error_feedback": False},
    staleness={"rule": "constant"},
)


@pytest.mark.parametrize("rho_max", [1.4, 9.0], ids=["spent", "left"])
def test_three_tasks_at_once_are_charged_what_they_cost(rho_max: float) -> None:
    """A training, one that has metrics reported, and a question, in turn: each charge is what other code counts.

    Rho in exact fractions from the admissions; epsilon of each task and of the population by another accountant.
    """
    rules: dict[str, Policy] = {"city.a": TRAINING, "city.ask": QUESTION, "city.told": TELLING}
    world = City(rules, budget_set(rho_max))
    for _ in range(3):
        for task in rules:
            world.take_part(task, "x", "y")
    book = read(world.log, world.partition)
    assert [*budget_faults(book), *epsilon_faults(book)] == []
    charges = world.events(LEDGER.name, RoundCharged)
    assert {charge.task for charge in charges} == set(rules)
    spent = max(world.count_spent().values())
    assert spent <= Fraction(repr(rho_max))
    assert charges[-1].population.rho_spent == float(spent)
    assert not check(world.log, world.partition, settled=True)


def _halve(charge: RoundCharged) -> RoundCharged:
    return msgspec.structs.replace(charge, epsilon=charge.epsilon / 2)


def test_another_epsilon_is_found() -> None:
    """The judge judges: half of what a charge costs is not taken."""
    world = City({"city.a": TRAINING})
    world.take_part("city.a", "x", "y")
    assert [*epsilon_faults(read(world.log, world.partition))] == []
    forge_event(world, LEDGER.name, RoundCharged, change=_halve)
    assert len([*epsilon_faults(read(world.log, world.partition))]) == 1
