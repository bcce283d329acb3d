"""What is in production, for whoever uses models: devices, gateways, servers, subscribers. No journal is needed.

* `announcements`: what the rollout says of a version in `published`, read and checked.
* `standing`: these folded: what is promoted, what is tried; and which version a device gets.
* `forwarding`: the same as a gateway passes it on.

Import the names from here. May import `schemas.published`.
"""

from __future__ import annotations

from schemas.rollouts.announcements import ROLLOUT, TYPES, Action, Announced, read_announcement
from schemas.rollouts.forwarding import read_production, write_production
from schemas.rollouts.standing import Standing, Standings, choose, evolve

__all__ = [
    "ROLLOUT",
    "TYPES",
    "Action",
    "Announced",
    "Standing",
    "Standings",
    "choose",
    "evolve",
    "read_announcement",
    "read_production",
    "write_production",
]
