"""The budget's effects: a proposal on which our own code fails is withheld, and a meter shows what is spent."""

from __future__ import annotations

from actors.deciders.privacy_budget import PRIVACY_BUDGET, Unchargeable
from actors.effects.privacy_budget import make_effects
from schemas.topics import CATALOGUE, ROUNDS
from streams.log import Record
from streams.memory import MemoryLog
from tests.worlds.builders import mechanism, model_published, private_policy, role_key, round_proposed

KEY = role_key("privacy")
RECORD = Record(ROUNDS.name, 0, 7, 1_000, None, b"")


def test_a_proposal_that_cannot_be_charged_gets_a_no() -> None:
    """Law 9: a defect in the ledger must not hold a task up for ever; unknown means refuse."""
    proposed, state = round_proposed(mechanism=mechanism(private_policy())), PRIVACY_BUDGET.initial()
    assert make_effects(MemoryLog(CATALOGUE), 0, key=KEY).fallback_input(state, RECORD, said=proposed) == Unchargeable(
        proposed
    )


def test_what_asks_for_no_charge_gets_no_answer() -> None:
    """A round without privacy, and every other event, is passed."""
    effects, state = make_effects(MemoryLog(CATALOGUE), 0, key=KEY), PRIVACY_BUDGET.initial()
    assert effects.fallback_input(state, RECORD, said=round_proposed()) is None
    assert effects.fallback_input(state, RECORD, said=model_published()) is None
    assert effects.fallback_input(state, RECORD, said=RECORD) is None
