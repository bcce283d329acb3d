"""Puts an actor together: its role, its decider and its edge, on one partition of one log."""

from __future__ import annotations

from typing import Any

from actors.actor import Actor, Observer
from actors.aggregation import AggregationEdge
from actors.deciders import aggregator
from actors.deciders.decider import Decider
from actors.deciders.selector import SELECTOR
from actors.edge import Edge
from actors.keys import OperatorKey, Seals
from actors.selection import SelectionEdge
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
    edge: Edge[Any]
    match name:
        case "selector":
            decider, edge = SELECTOR, SelectionEdge(log, Seals(key))
        case "aggregator":
            decider, edge = aggregator.decider(key.key_id), AggregationEdge(log, partition, key=key)
        case _:
            # Here, because dp-accounting takes as long to import as all the rest, and the others do without.
            from actors.charging import ChargingEdge  # noqa: PLC0415
            from actors.deciders.privacy_budget import PRIVACY_BUDGET  # noqa: PLC0415

            decider, edge = PRIVACY_BUDGET, ChargingEdge()
    return Actor(
        ROLES[name], partition, log=log, decider=decider, edge=edge, accepts_resume=key.accepts, observer=observer
    )
