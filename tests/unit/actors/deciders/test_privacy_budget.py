"""The privacy budget: charges before anything is released, and refuses whatever it cannot vouch for (law 8)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from actors.deciders.aggregator import mechanism_of
from actors.deciders.privacy_budget import PRIVACY_BUDGET, Ledger
from schemas.events import (
    BudgetExhausted,
    JournalEvent,
    Mechanism,
    Noticed,
    RoundCharged,
    RoundProposed,
    RoundWithheld,
    TaskClosed,
    TaskCreated,
)
from schemas.identifiers import BodyRef
from tests.worlds.builders import KEY, policy, task_created

MODEL = BodyRef(topic="models", partition=0, offsets=(0,), sha256=bytes(32), size=9, codec="float32")
CREATED = task_created(policy(privacy={"noise_multiplier": 2.0, "rho_max": 0.5}))
MECHANISM = mechanism_of(CREATED, KEY.key_id)


def _decided(state: Ledger, fact: object) -> list[JournalEvent]:
    events = PRIVACY_BUDGET.decide(state, fact, 0)
    for event in events:
        PRIVACY_BUDGET.evolve(state, event, 0)
    return events


def _ledger(task: TaskCreated = CREATED) -> Ledger:
    state = PRIVACY_BUDGET.initial()
    _decided(state, Noticed(fact=task))
    return state


def _proposed(round_id: int, participations_max: int, mechanism: Mechanism | None = MECHANISM) -> RoundProposed:
    return RoundProposed(
        task="digits",
        round=round_id,
        members_root=bytes(32),
        members=3,
        weight_sum=3 << 20,
        mechanism=mechanism,
        participations_max=participations_max,
    )


def test_a_round_is_charged_as_a_total() -> None:
    """The charge covers everything released so far: rho = participations_max / (2 z^2), with its epsilon and delta."""
    state = _ledger()
    [charge] = _decided(state, _proposed(0, 1))
    assert isinstance(charge, RoundCharged)
    assert (charge.rho_total, charge.participations_max, charge.mechanism) == (0.125, 1, MECHANISM)
    assert charge.delta == 1e-5
    [again] = _decided(state, _proposed(1, 1))
    assert isinstance(again, RoundCharged)
    assert again.rho_total == 0.125


def test_charges_never_fall() -> None:
    """The total is monotone, and what a proposal says about fewer participations than before is withheld."""
    state = _ledger()
    totals = [_decided(state, _proposed(at, at + 1))[0] for at in range(3)]
    assert [charge.rho_total for charge in totals if isinstance(charge, RoundCharged)] == [0.125, 0.25, 0.375]
    [withheld] = _decided(state, _proposed(3, 2))
    assert isinstance(withheld, RoundWithheld)
    assert withheld.reason == "participations"


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_multiplier": 1.9},
        {"noise_multiplier": 2.1},
        {"clip_steps": 1},
        {"weight_max": 1},
        {"sigma": CREATED.policy.sigma - 1},
        {"sigma": 0},
    ],
    ids=str,
)
def test_another_mechanism_is_withheld(changes: dict[str, Any]) -> None:
    """Unknown means refuse: noise that is not exactly what the policy promised is not paid for."""
    assert MECHANISM is not None
    [withheld] = _decided(_ledger(), _proposed(0, 1, msgspec.structs.replace(MECHANISM, **changes)))
    assert isinstance(withheld, RoundWithheld)
    assert withheld.reason == "mechanism"


def test_a_task_that_it_never_heard_of_is_withheld() -> None:
    """No account, no charge."""
    [withheld] = _decided(PRIVACY_BUDGET.initial(), _proposed(0, 1))
    assert isinstance(withheld, RoundWithheld)


@pytest.mark.parametrize("jump", [2, 3, 100])
def test_participations_that_jump_are_withheld(jump: int) -> None:
    """A device is at most once in a round, so the busiest gains at most one: a larger claim cannot be true."""
    [withheld] = _decided(_ledger(), _proposed(0, jump))
    assert isinstance(withheld, RoundWithheld)
    assert withheld.reason == "participations"


def test_a_round_is_charged_once() -> None:
    """The same round, or an older one, is never paid for a second time."""
    state = _ledger()
    _decided(state, _proposed(4, 1))
    for round_id in (4, 3, 0):
        [withheld] = _decided(state, _proposed(round_id, 1))
        assert isinstance(withheld, RoundWithheld)


def test_the_budget_ends_at_rho_max() -> None:
    """rho_max itself can be spent; the first round beyond it is withheld, and the exhaustion is an event."""
    state = _ledger()
    for at in range(4):
        [charge] = _decided(state, _proposed(at, at + 1))
        assert isinstance(charge, RoundCharged)
    assert charge.rho_total == 0.5
    withheld, exhausted = _decided(state, _proposed(4, 5))
    assert isinstance(withheld, RoundWithheld)
    assert withheld.reason == "budget"
    assert isinstance(exhausted, BudgetExhausted)
    assert (exhausted.rho_total, exhausted.rho_max) == (0.625, 0.5)


def test_participations_of_parents_are_spent() -> None:
    """`task create --from` starts from what its parents have spent: the first round costs one more than that."""
    carried_on = msgspec.structs.replace(CREATED, participations_before=3)
    state = _ledger(carried_on)
    [charge] = _decided(state, _proposed(0, 4))
    assert isinstance(charge, RoundCharged)
    assert charge.rho_total == 0.5
    assert isinstance(_decided(_ledger(carried_on), _proposed(0, 1))[0], RoundWithheld)


def test_participations_of_withheld_rounds_stay_counted() -> None:
    """A round that was proposed may have been seen: what it said about participations is never taken back."""
    assert MECHANISM is not None
    state = _ledger()
    _decided(state, _proposed(0, 1, msgspec.structs.replace(MECHANISM, sigma=1)))
    assert state.accounts["digits"].participations_max == 1
    assert isinstance(_decided(state, _proposed(1, 2))[0], RoundCharged)


def test_without_privacy_nothing_is_charged() -> None:
    """A task without privacy has no account, and its rounds ask for none."""
    state = _ledger(task_created(policy()))
    assert not state.accounts
    assert _decided(state, _proposed(0, 1, None)) == []
    assert _decided(state, Noticed(fact=TaskClosed(task="digits"))) == []
