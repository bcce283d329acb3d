"""Who reads what, who writes what, and where the code is. A newcomer reads this table first, then the deciders in it.

A new actor is a module in `actors/deciders/`, one of the same name in `actors/effects/`, and a row here.
"""

from __future__ import annotations

from actors.runtime.role import Role
from schemas.events import (
    BudgetExhausted,
    CanaryGrown,
    CanaryStarted,
    DeviceRevoked,
    DriftEnded,
    DriftFound,
    EnrolmentClosed,
    EnrolmentOpened,
    ModelPublished,
    Promoted,
    RolledBack,
    RolloutHalted,
    RolloutResumed,
    RoundAbandoned,
    RoundCharged,
    RoundProposed,
    RoundWithheld,
    TaskHalted,
)
from schemas.topics import (
    CHECKINS,
    CLOCK,
    ENROLMENTS,
    EVALUATIONS,
    LEDGER,
    MASKS,
    PUBLISHED,
    REGISTRY,
    ROLLOUTS,
    ROUNDS,
    SELECTIONS,
    TASKS,
    UPDATES,
)

SELECTOR_ROLE = Role(
    name="selector",
    summary="Grant leases: who may train, how many at a time, for how long.",
    journal=SELECTIONS.name,
    inputs=(CHECKINS.name, ROUNDS.name, REGISTRY.name),
    ticks=CHECKINS.name,
    decider="actors.deciders.selector",
    effects="actors.effects.selector",
    meter="actors.effects.selector",
    turning_points=(),
)
AGGREGATOR_ROLE = Role(
    name="aggregator",
    summary="Admit updates, fill rounds, publish versions.",
    journal=ROUNDS.name,
    inputs=(TASKS.name, UPDATES.name, LEDGER.name, EVALUATIONS.name, MASKS.name, ROLLOUTS.name),
    ticks=UPDATES.name,
    decider="actors.deciders.aggregator",
    effects="actors.effects.aggregator.effects",
    meter="actors.effects.aggregator.meter",
    turning_points=(RoundProposed, ModelPublished, RoundAbandoned, TaskHalted, DriftFound, DriftEnded),
    written_beside=(PUBLISHED.name,),
)
PRIVACY_ROLE = Role(
    name="privacy",
    summary="Charge each round before it is published, and withhold what would pass the budget.",
    journal=LEDGER.name,
    inputs=(ROUNDS.name,),
    ticks=None,
    decider="actors.deciders.privacy_budget",
    effects="actors.effects.privacy_budget",
    meter="actors.effects.privacy_budget",
    turning_points=(RoundCharged, RoundWithheld, BudgetExhausted),
)

REGISTRAR_ROLE = Role(
    name="registrar",
    summary="Enrol devices: who takes part where a policy asks for it, as whom, and until when.",
    journal=REGISTRY.name,
    inputs=(ENROLMENTS.name,),
    ticks=None,
    decider="actors.deciders.registrar",
    effects="actors.effects.registrar",
    meter="actors.effects.registrar",
    turning_points=(EnrolmentOpened, EnrolmentClosed, DeviceRevoked),
)

ROLLOUT_ROLE = Role(
    name="rollout",
    summary="Roll versions out: try, promote and roll back by the scores of evaluators, where a policy asks for it.",
    journal=ROLLOUTS.name,
    inputs=(ROUNDS.name, EVALUATIONS.name, CLOCK.name),
    ticks=CLOCK.name,
    decider="actors.deciders.rollout",
    effects="actors.effects.rollout",
    meter="actors.effects.rollout",
    turning_points=(CanaryStarted, CanaryGrown, Promoted, RolledBack, RolloutHalted, RolloutResumed),
    written_beside=(PUBLISHED.name,),
)

ROLES = {role.name: role for role in (SELECTOR_ROLE, AGGREGATOR_ROLE, PRIVACY_ROLE, REGISTRAR_ROLE, ROLLOUT_ROLE)}
