"""The privacy budget as a specification: it charges before anything is released, and refuses what it cannot vouch for.

All of it is law 8.
"""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from actors.deciders.arithmetic.accounting import epsilon
from actors.deciders.privacy_budget import PRIVACY_BUDGET, Ledger, Unchargeable
from schemas.events import (
    BudgetExhausted,
    Mechanism,
    Noticed,
    RoundCharged,
    RoundOpened,
    RoundProposed,
    RoundWithheld,
    TaskCreated,
)
from tests.worlds import builders
from tests.worlds.builders import TASK, mechanism, policy, private_policy, task_closed, task_created
from tests.worlds.specification import Situation
from tests.worlds.specification import given as given_decider

RULES = private_policy(noise_multiplier=2.0, rho_max=0.5)
CREATED = task_created(RULES)
MECHANISM = mechanism(RULES)
assert MECHANISM is not None


def given(task: TaskCreated = CREATED) -> Situation[Ledger]:
    """An account that nothing was charged to."""
    return given_decider(PRIVACY_BUDGET).when(Noticed(fact=task))


def proposed(round_id: int, participations_max: int, noise: Mechanism | None = MECHANISM) -> RoundProposed:
    """A full round; `participations_max` is of the busiest device, so far."""
    return builders.round_proposed(round_id, participations_max=participations_max, mechanism=noise)


def charged(round_id: int, participations_max: int, rho_total: float) -> RoundCharged:
    """A round that is paid for."""
    return RoundCharged(
        task=TASK,
        round=round_id,
        mechanism=MECHANISM,
        participations_max=participations_max,
        rho_total=rho_total,
        epsilon=epsilon(Fraction(participations_max, 8), delta=1e-5),
        delta=1e-5,
    )


def withheld(round_id: int, participations_max: int, reason: str) -> RoundWithheld:
    """A round that may not be released."""
    return RoundWithheld(task=TASK, round=round_id, participations_max=participations_max, reason=reason)  # type: ignore[arg-type]


def test_a_private_task_gets_an_account() -> None:
    """The budget notices a task once the aggregator has, and only one with privacy."""
    noticed = Noticed(fact=CREATED)
    given_decider(PRIVACY_BUDGET).when(noticed).then(noticed)
    given_decider(PRIVACY_BUDGET).when(Noticed(fact=task_created(policy()))).then_nothing()


def test_a_round_is_charged_as_a_total() -> None:
    """The charge covers everything released so far: rho = participations_max / (2 z^2), with its epsilon and delta."""
    situation = given().when(proposed(0, 1)).then(charged(0, 1, 0.125))
    situation.when(proposed(1, 1)).then(charged(1, 1, 0.125))


def test_charges_never_fall() -> None:
    """The total is monotone, and a proposal that says fewer participations than before is withheld."""
    situation = given()
    for at, total in enumerate((0.125, 0.25, 0.375)):
        situation.when(proposed(at, at + 1)).then(charged(at, at + 1, total))
    situation.when(proposed(3, 2)).then(withheld(3, 2, "participations"))


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_multiplier": 1.9},
        {"noise_multiplier": 2.1},
        {"clip_steps": 1},
        {"weight_max": 1},
        {"sigma": RULES.sigma - 1},
        {"sigma": 0},
    ],
    ids=str,
)
def test_another_mechanism_is_withheld(changes: dict[str, Any]) -> None:
    """Unknown means refuse: noise that is not exactly what the policy promised is not paid for."""
    other = msgspec.structs.replace(MECHANISM, **changes)
    given().when(proposed(0, 1, other)).then(withheld(0, 1, "mechanism"))


def test_a_task_that_it_does_not_know_is_withheld() -> None:
    """No account, no charge."""
    given_decider(PRIVACY_BUDGET).when(proposed(0, 1)).then(withheld(0, 1, "mechanism"))


def test_a_proposal_on_which_our_own_code_failed_is_withheld() -> None:
    """What cannot be reckoned is refused; its participations stay counted."""
    situation = given().when(Unchargeable(proposed(0, 1))).then(withheld(0, 1, "mechanism"))
    situation.when(proposed(1, 2)).then(charged(1, 2, 0.25))


@pytest.mark.parametrize("jump", [2, 3, 100])
def test_participations_that_jump_are_withheld(jump: int) -> None:
    """A device is at most once in a round, so the busiest gains at most one: a larger claim cannot be true."""
    given().when(proposed(0, jump)).then(withheld(0, jump, "participations"))


@pytest.mark.parametrize("again", [4, 3, 0])
def test_a_round_is_charged_once(again: int) -> None:
    """The same round, or an older one, is never paid for a second time."""
    given().when(proposed(4, 1)).when(proposed(again, 1)).then(withheld(again, 1, "mechanism"))


def test_the_budget_ends_at_rho_max() -> None:
    """rho_max itself can be spent; the first round beyond it is withheld, and the exhaustion is an event."""
    situation = given()
    for at in range(4):
        situation.when(proposed(at, at + 1)).then(charged(at, at + 1, (at + 1) * 0.125))
    exhausted = BudgetExhausted(task=TASK, rho_total=0.625, rho_max=0.5)
    situation.when(proposed(4, 5)).then(withheld(4, 5, "budget"), exhausted)


def test_what_parents_have_spent_is_spent() -> None:
    """A charge covers the tasks before, each at its own noise: 10 at z = 0.5 and one at z = 20 are 20 + 1/800."""
    rules = private_policy(noise_multiplier=20.0, rho_max=20.002)
    created = task_created(rules, parent="before", spent_before=(builders.spending(10, 0.5),))
    noise = mechanism(rules)
    [event] = given(created).when(proposed(0, 1, noise)).caused
    assert isinstance(event, RoundCharged)
    assert (event.rho_total, event.participations_max) == (20.00125, 1)
    assert event.epsilon == epsilon(Fraction(2000125, 100_000), delta=1e-5)
    exhausted = BudgetExhausted(task=TASK, rho_total=20.0025, rho_max=20.002)
    given(created).when(proposed(0, 1, noise)).when(proposed(1, 2, noise)).then(withheld(1, 2, "budget"), exhausted)


def test_a_total_is_never_above_the_budget() -> None:
    """Law 8: with every participation that a policy allows charged, rho_total is at most rho_max, to the last bit."""
    for tenths, participations in itertools.product(range(3, 60, 4), range(1, 12)):
        rho_max = float(Fraction(50 * participations, tenths**2))
        rules = private_policy(noise_multiplier=tenths / 10, rho_max=rho_max)
        created, noise = task_created(rules), mechanism(rules)
        situation = given(created)
        for at in range(created.participations_cap or 0):
            situation.when(proposed(at, at + 1, noise))
            [event] = situation.caused
            assert isinstance(event, RoundCharged)
            assert event.rho_total <= rho_max


def test_participations_of_withheld_rounds_stay_counted() -> None:
    """A round that was proposed may have been seen: what it said about participations is never taken back."""
    situation = given().when(proposed(0, 1, msgspec.structs.replace(MECHANISM, sigma=1)))
    assert situation.state.accounts[TASK].participations_max == 1
    situation.when(proposed(1, 2)).then(charged(1, 2, 0.25))


def test_without_privacy_nothing_is_charged() -> None:
    """A task without privacy has no account, and its rounds ask for none."""
    situation = given(task_created(policy()))
    assert not situation.state.accounts
    situation.when(proposed(0, 1, None)).then_nothing()


@pytest.mark.parametrize("event", [Noticed(fact=task_closed()), RoundOpened(task=TASK, round=1)], ids=str)
def test_what_proposes_no_round_decides_nothing(event: Any) -> None:
    """The rest of the aggregator's journal only moves the position."""
    given().when(event).then_nothing()
