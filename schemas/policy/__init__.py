"""The rules of a task: everything that changes a decision, with units and bounds. May import `schemas.topics`.

* `sections`: the tables of a policy and what follows from them; everybody imports them.
* `spending`: what a chain of private tasks has spent, in exact fractions.
* `checks`: reads a policy file and refuses what cannot hold; for the operator's commands and audit.

Import the names from here.
"""

from __future__ import annotations

from schemas.policy.checks import BOUNDS, PolicyError, check_policy, parse
from schemas.policy.sections import (
    NOISE_TAIL_SIGMAS,
    WEIGHT_ONE,
    Aggregation,
    Clipping,
    Compression,
    Optimizer,
    Policy,
    Privacy,
    Retention,
    Selection,
    Staleness,
    Stop,
    Training,
)
from schemas.policy.spending import Spending, compute_rho, count_affordable, to_fraction

__all__ = [
    "BOUNDS",
    "NOISE_TAIL_SIGMAS",
    "WEIGHT_ONE",
    "Aggregation",
    "Clipping",
    "Compression",
    "Optimizer",
    "Policy",
    "PolicyError",
    "Privacy",
    "Retention",
    "Selection",
    "Spending",
    "Staleness",
    "Stop",
    "Training",
    "check_policy",
    "compute_rho",
    "count_affordable",
    "parse",
    "to_fraction",
]
