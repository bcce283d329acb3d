"""Puts an actor together: its role's decider and effects, on one partition of one log. Hosts and tests call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.keys import RoleKey
from actors.runtime.actor import Actor
from actors.runtime.observer import Observer
from actors.wiring import ROLES
from streams.log import EventLog


def assemble(
    name: str,
    partition: int,
    *,
    log: EventLog,
    key: RoleKey,
    observers: Sequence[Observer] = (),
) -> Actor[Any]:
    """The actor `name`, not yet opened; `observers` see what it replays and decides."""
    role = ROLES[name]
    return Actor(
        role,
        partition,
        log=log,
        decider=role.load_decider(key.noise_id),
        effects=role.load_effects(log, partition, key=key),
        key=key,
        observers=observers,
    )
