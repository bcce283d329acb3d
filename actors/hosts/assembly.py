"""Puts an actor together: its role's decider and effects, on one partition of one log. Hosts and tests call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.keys import OperatorKey
from actors.runtime.actor import Actor
from actors.runtime.observer import Observer
from actors.wiring import ROLES
from streams.log import EventLog


def assemble(
    name: str,
    partition: int,
    *,
    log: EventLog,
    key: OperatorKey,
    observers: Sequence[Observer] = (),
) -> Actor[Any]:
    """The actor `name`, not yet opened; `observers` see what it replays and decides."""
    role = ROLES[name]
    return Actor(
        role,
        partition,
        log=log,
        decider=role.load_decider(key.key_id),
        effects=role.load_effects(log, partition, key=key),
        # Only the operator's seal lets a chain go on behind a break (law 4).
        accepts_resume=key.accepts,
        observers=observers,
    )
