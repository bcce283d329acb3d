"""What a worker's log shows of decisions: the turning points of a task, each with task, seq and input offset.

Everything else (leases, admissions, refusals) comes by the thousand: metrics count it, and the journal holds it.
"""

from __future__ import annotations

import re
from typing import Any

import structlog

from actors.runtime.role import Role
from schemas.events import DefectFound, Event, InputsDropped, Noticed, TaskCreated
from schemas.journal import Decision

logger = structlog.get_logger()

# Fields by name, for all kinds of events: a new kind shows those that it shares.
_FIELDS = ("task", "round", "version", "reason", "members", "rho_total", "epsilon", "count", "topic", "error")


class TurningPoints:
    """An observer of the actors of one role."""

    def __init__(self, role: Role) -> None:
        self._kinds: tuple[type[Event], ...] = (*role.turning_points, InputsDropped, DefectFound)

    def note_restored(self, state: object) -> None:
        """Say nothing: it was said when it was decided."""

    def note_replayed(self, decision: Decision) -> None:
        """Say nothing, as above."""

    def note_decided(self, decision: Decision, seq: int) -> None:
        """Log the turning points among the events of a new decision."""
        for event in decision.events:
            # What was noticed is another actor's turning point, but a task begins where the aggregator notices it.
            if isinstance(event, self._kinds) or (isinstance(event, Noticed) and isinstance(event.fact, TaskCreated)):
                place = {"seq": seq, "input": decision.topic or "host", "offset": decision.offset}
                fact = event.fact if isinstance(event, Noticed) else event
                logger.info(name_logged(type(fact)), **_fields_of(fact), **place)


def name_logged(kind: type) -> str:
    """The name of a kind of event in a log line: `RoundProposed` is `round_proposed`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _fields_of(fact: Event) -> dict[str, Any]:
    return {name: getattr(fact, name) for name in _FIELDS if getattr(fact, name, None) is not None}
