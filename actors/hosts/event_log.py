"""What a worker's log tells of its decisions: the turning points of a task, each with task, seq and input offset."""

from __future__ import annotations

from typing import Any

import structlog

from schemas.events import (
    BudgetExhausted,
    DefectFound,
    InputsDropped,
    JournalEvent,
    ModelPublished,
    Noticed,
    RoundAbandoned,
    RoundCharged,
    RoundProposed,
    RoundWithheld,
    TaskCreated,
    TaskHalted,
)
from schemas.journal import Decision

logger = structlog.get_logger()

# Everything else (leases, admissions, refusals) comes by the thousand: metrics count it, the journal holds it.
_TOLD = (
    RoundProposed,
    RoundCharged,
    ModelPublished,
    RoundAbandoned,
    RoundWithheld,
    BudgetExhausted,
    TaskHalted,
    InputsDropped,
    DefectFound,
)


def narrate(decision: Decision, seq: int) -> None:
    """Log the turning points among a decision's events."""
    for event in decision.events:
        if isinstance(event, _TOLD) or (isinstance(event, Noticed) and isinstance(event.fact, TaskCreated)):
            where = {"seq": seq, "input": decision.topic or "host", "offset": decision.offset}
            logger.info(type(event).__name__, **_shown(event), **where)


def _shown(event: JournalEvent) -> dict[str, Any]:
    fact = event.fact if isinstance(event, Noticed) else event
    names = ("task", "round", "version", "reason", "members", "rho_total", "epsilon", "count", "topic", "error")
    return {name: getattr(fact, name) for name in names if getattr(fact, name, None) is not None}
