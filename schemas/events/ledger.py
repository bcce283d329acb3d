"""Charge: topic `ledger`, the privacy budget's journal."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.event import Event
from schemas.events.rounds import Mechanism
from schemas.identifiers import Count, RoundId, TaskId


class PopulationCharge(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What the busiest device of the population has spent over all of its tasks, of what the operator allows."""

    rho_spent: float
    rho_max: float
    epsilon: float


class RoundCharged(Event):
    """The release of this round is paid for. `rho_total` covers everything released so far, this round included."""

    task: TaskId
    round: RoundId
    mechanism: Mechanism
    participations_max: Count
    # The sum so far and not this round's share: the last charge of a task says all.
    rho_total: float
    epsilon: float
    delta: float
    # Where the population has a budget.
    population: PopulationCharge | UnsetType = UNSET


class RoundWithheld(Event):
    """The round may not be released."""

    task: TaskId
    round: RoundId
    participations_max: Count
    reason: Literal["budget", "mechanism", "participations"]


class BudgetExhausted(Event):
    """No further round of this task can be paid for."""

    task: TaskId
    rho_total: float
    rho_max: float


BudgetEvent = RoundCharged | RoundWithheld | BudgetExhausted
