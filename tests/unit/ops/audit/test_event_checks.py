"""Single events against the state before them: what is not so is said in words."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from actors.deciders.aggregator_state import Rounds, Task
from ops.audit.event_checks import check_admission, check_budget, check_charge, check_proposal, find_ignored
from schemas.events import JournalEvent, Noticed, PopulationCharge, RoundOpened, RoundProposed, UpdateAdmitted
from schemas.policy import Policy, Share
from tests.worlds.builders import (
    TASK,
    model_published,
    private_policy,
    round_proposed,
    task_created,
    update_admitted,
)
from tests.worlds.identity.budgets import budget_set
from tests.worlds.rounds import AGGREGATOR, round_charged
from tests.worlds.specification import given

PRIVATE = private_policy()


def state_of(rules: Policy | None = None, *history: JournalEvent) -> Rounds:
    """A task with version 0 and an open round, after these events."""
    begun = Noticed(fact=task_created(rules)), model_published(), RoundOpened(task=TASK, round=0)
    return given(AGGREGATOR, *begun, *history).state


def task(rules: Policy | None = None, *history: JournalEvent) -> Task:
    """The same, of which only the task is looked at."""
    return state_of(rules, *history).tasks[TASK]


def admission_faults(admitted: UpdateAdmitted) -> list[str]:
    """What is wrong with the first admission of a round."""
    state = state_of()
    return [*check_admission(state, admitted)]


def proposal_faults(state: Rounds, proposed: RoundProposed) -> list[str]:
    """What is wrong with a proposal at this state."""
    return [*check_proposal(state, proposed, time_ms=0)]


def changed(event: Any, **fields: object) -> Any:
    """The same with other fields."""
    return msgspec.structs.replace(event, **fields)


def test_staleness_and_weight_of_an_admission_are_counted_again() -> None:
    """Both follow from the versions so far and the policy's table."""
    admitted = update_admitted("a", weight=task_created().weights[0])
    assert admission_faults(admitted) == []
    assert "staleness 1, not 0" in admission_faults(changed(admitted, staleness=1))[0]
    (weight,) = admission_faults(changed(admitted, weight=admitted.weight + 1))
    assert "which staleness 0 never has" in weight


def test_a_proposal_is_the_admissions_of_its_round() -> None:
    """Members, weights and participations are those of the buffer, the mechanism is the policy's."""
    proposed = changed(round_proposed(0), members=9, weight_sum=1, participations_max=0)
    faults = " ".join(proposal_faults(state_of(None, update_admitted("a"), update_admitted("b")), proposed))
    for fault in (
        "not those admitted",
        "weight_sum is not",
        "participations_max 0, counted 1",
        "neither full nor over",
    ):
        assert fault in faults
    assert "mechanism" not in faults
    (private,) = (
        fault
        for fault in proposal_faults(state_of(PRIVATE, update_admitted("a")), changed(proposed, mechanism=None))
        if "mechanism" in fault
    )
    assert private == "round 0: the mechanism is not the policy's"


def test_a_private_version_without_a_charge_is_named() -> None:
    """The ledger comes before the publication, and covers the round."""
    full = update_admitted("a"), round_proposed(0)
    charge = round_charged(0, PRIVATE)
    assert list(check_charge(task(PRIVATE, *full), 0, charge=None)) == [
        "round 0 was published without a charge in the ledger"
    ]
    faults = list(check_charge(task(PRIVATE, *full), 0, charge=changed(charge, rho_total=0.0)))
    assert faults[0] == "round 0 was published before its charge was noticed"
    assert faults[1].startswith("round 0: charged rho 0 does not cover")


def test_a_charge_that_passes_the_budget_is_named() -> None:
    """Large enough or not: the ledger withholds such a round, so somebody else wrote that charge."""
    cap, noise = task_created(PRIVATE).participations_cap or 0, round_charged(0, PRIVATE).mechanism
    for participations, faults in ((cap, 0), (cap + 1, 1)):
        full = update_admitted("a"), round_proposed(0, mechanism=noise, participations_max=participations)
        charge = changed(round_charged(0, PRIVATE), rho_total=1e6)
        found = [*check_charge(task(PRIVATE, *full, Noticed(fact=charge)), 0, charge=charge)]
        assert len([fault for fault in found if "pass the budget" in fault]) == faults


def test_a_budget_is_the_operators_and_true() -> None:
    """One that nobody signed, that is no lower, or that stands beside unknown losses is named."""
    mine = budget_set(2.0, population=TASK)
    state = state_of(PRIVATE)
    assert [*check_budget(state, mine, signed=[mine])] == []
    assert "is not what the operator signed" in [*check_budget(state, mine, signed=[budget_set()])]
    assert len([*check_budget(state_of(), mine, signed=[mine])]) == 1
    begun = state_of(PRIVATE, Noticed(fact=mine))
    assert len([*check_budget(begun, changed(mine, rho_max=3.0), signed=[changed(mine, rho_max=3.0)])]) == 1


def test_a_budget_that_was_passed_over_is_named() -> None:
    """An aggregator that does not hear what binds it is found by what the operator signed."""
    mine = budget_set(2.0, population=TASK)
    assert len([*find_ignored(state_of(PRIVATE), [mine])]) == 1
    assert [*find_ignored(state_of(PRIVATE, Noticed(fact=mine)), [mine, changed(mine, rho_max=3.0)])] == []
    assert [*find_ignored(state_of(), [mine])] == []


def test_a_participation_past_the_populations_budget_is_named() -> None:
    """In the admission, in a proposal that hides it, and in a charge that does not cover it."""
    begun = Noticed(fact=budget_set(0.5, population=TASK)), update_admitted("a")
    state = state_of(private_policy(1.0, rho_max=9.0), *begun)
    admitted = update_admitted("a", weight=task_created().weights[0])
    assert "nothing left of its population's budget" in " ".join(check_admission(state, admitted))
    for told, faults in (((), 1), (state.budgets[TASK].busiest, 0)):
        found = proposal_faults(state, round_proposed(0, busiest=told))
        assert len([fault for fault in found if "busiest" in fault]) == faults
    full = update_admitted("b"), round_proposed(0, busiest=(Share(participations=1, noise_multiplier=1.0),))
    charge = changed(round_charged(0, PRIVATE), rho_total=1e6)
    for told, faults in ((UNSET, 1), (population_charge(0.4), 1), (population_charge(0.5), 0)):
        charge = changed(charge, population=told)
        found = [*check_charge(task(PRIVATE, *full, Noticed(fact=charge)), 0, charge=charge)]
        assert len([fault for fault in found if "population" in fault]) == faults


def population_charge(rho_spent: float) -> PopulationCharge:
    """What a ledger said of a budget of 0.5."""
    return PopulationCharge(rho_spent=rho_spent, rho_max=0.5, epsilon=1.0)
