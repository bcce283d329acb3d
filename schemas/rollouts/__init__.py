"""What is in production, for whoever uses models: devices, gateways, servers, subscribers. No journal is needed.

* `standing`: what a rollout announces in `published`, folded: what is promoted, what is tried; and which version a
  device gets.
* `forwarding`: the same as a gateway passes it on.

Import the names from here. May import `schemas.announcements`.
"""

from __future__ import annotations

from schemas.rollouts.forwarding import read_production, write_production
from schemas.rollouts.standing import Standing, Standings, choose, evolve

__all__ = [
    "Standing",
    "Standings",
    "choose",
    "evolve",
    "read_production",
    "write_production",
]
