"""Single events against the state before them: what is not so is said in words."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.deciders.aggregator_state import Task
from ops.audit.event_checks import check_admission, check_charge, check_proposal
from schemas.events import JournalEvent, Noticed, RoundOpened
from schemas.policy import Policy
from tests.worlds.builders import (
    TASK,
    model_published,
    private_policy,
    round_proposed,
    task_created,
    update_admitted,
)
from tests.worlds.rounds import AGGREGATOR, round_charged
from tests.worlds.specification import given

PRIVATE = private_policy()


def task(rules: Policy | None = None, *history: JournalEvent) -> Task:
    """A task with version 0 and an open round, after these events."""
    begun = Noticed(fact=task_created(rules)), model_published(), RoundOpened(task=TASK, round=0)
    return given(AGGREGATOR, *begun, *history).state.tasks[TASK]


def changed(event: Any, **fields: object) -> Any:
    """The same with other fields."""
    return msgspec.structs.replace(event, **fields)


def test_staleness_and_weight_of_an_admission_are_counted_again() -> None:
    """Both follow from the versions so far and the policy's table."""
    admitted = update_admitted("a", weight=task_created().weights[0])
    assert list(check_admission(task(), admitted)) == []
    assert "staleness 1, not 0" in next(check_admission(task(), changed(admitted, staleness=1)))
    (weight,) = check_admission(task(), changed(admitted, weight=admitted.weight + 1))
    assert "which staleness 0 never has" in weight


def test_a_proposal_is_the_admissions_of_its_round() -> None:
    """Members, weights and participations are those of the buffer, the mechanism is the policy's."""
    proposed = changed(round_proposed(0), members=9, weight_sum=1, participations_max=0)
    faults = " ".join(check_proposal(task(None, update_admitted("a"), update_admitted("b")), proposed, time_ms=0))
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
        for fault in check_proposal(task(PRIVATE, update_admitted("a")), changed(proposed, mechanism=None), time_ms=0)
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
