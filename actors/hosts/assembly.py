"""Puts an actor together: its role, its decider and its edge, on one partition of one log."""

from __future__ import annotations

from typing import Any

from actors.deciders import aggregator
from actors.deciders.decider import Decider
from actors.deciders.selector import SELECTOR
from actors.effects.aggregator.effects import AggregatorEffects
from actors.effects.selector import SelectorEffects
from actors.keys import OperatorKey, Seals
from actors.runtime.actor import Actor, Observer
from actors.runtime.effects import Effects
from actors.wiring import ROLES
from streams.log import EventLog


def assemble(
    name: str,
    partition: int,
    *,
    log: EventLog,
    key: OperatorKey,
    observer: Observer | None = None,
) -> Actor[Any]:
    """The actor `name`, not yet opened; `observer` sees what it replays and decides."""
    decider: Decider[Any]
    edge: Effects[Any]
    match name:
        case "selector":
            decider, edge = SELECTOR, SelectorEffects(log, Seals(key))
        case "aggregator":
            decider, edge = aggregator.decider(key.key_id), AggregatorEffects(log, partition, key=key)
        case _:
            # Here, because dp-accounting takes as long to import as all the rest, and the others do without.
            from actors.deciders.privacy_budget import PRIVACY_BUDGET  # noqa: PLC0415
            from actors.effects.privacy_budget import PrivacyBudgetEffects  # noqa: PLC0415

            decider, edge = PRIVACY_BUDGET, PrivacyBudgetEffects()
    return Actor(
        ROLES[name], partition, log=log, decider=decider, edge=edge, accepts_resume=key.accepts, observer=observer
    )
