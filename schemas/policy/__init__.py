"""The rules of a task: everything that changes a decision, with units and bounds. May import `schemas.topics`.

* `section`: the base of all tables. `learning`: those that say what devices learn and measure.
* `metrics`: what devices report, as whole numbers; updates carry it, and rounds its sums.
* `sections`: the other tables of a policy and what follows from them; everybody imports them.
* `spending`: what a chain of private tasks has spent, in exact fractions.
* `presets`: what a textbook's name for a policy fills in; read by `checks` alone.
* `checks`: reads a policy file and refuses what cannot hold; for the operator's commands and audit.
  `misfits`: the fields that are unknown, missing, or of another kind, each with its line.
  `learning_checks`: its part for the tables of `learning`; `measuring` for the table [measure]; `robustness` for
  [robust], `tiers/` for [masked], `guarding/` for [quarantine] and [drift], `releasing/` for [rollout]; `arguments`:
  what our own losses and optimizers take.

Import the names from here.
"""

from __future__ import annotations

from schemas.policy.checks import BOUNDS, PolicyError, check_policy, parse
from schemas.policy.guarding.drift import Drift
from schemas.policy.guarding.quarantine import Quarantine
from schemas.policy.learning import (
    FLOWER_APP,
    FLOWER_LEARNER,
    FLOWER_QUERY,
    LESS_IS_BETTER,
    Argument,
    Arguments,
    Evaluation,
    Measure,
    Parameters,
    Schedule,
    Seeds,
    Statistic,
    Training,
)
from schemas.policy.releasing.rollout import Gate, Rollout, Stage
from schemas.policy.sections import (
    NOISE_TAIL_SIGMAS,
    WEIGHT_ONE,
    WEIGHT_ONE_MASKED,
    Aggregation,
    Clipping,
    Compression,
    Masked,
    Optimizer,
    Policy,
    Privacy,
    Retention,
    Robust,
    Sealed,
    Selection,
    Staleness,
    Stop,
    count_epoch_versions,
    find_effective_min,
    name_judged_metric,
    name_stored_codec,
)
from schemas.policy.spending import Share, Spending, compute_rho, count_affordable, join_shares, to_fraction

__all__ = [
    "BOUNDS",
    "FLOWER_APP",
    "FLOWER_LEARNER",
    "FLOWER_QUERY",
    "LESS_IS_BETTER",
    "NOISE_TAIL_SIGMAS",
    "WEIGHT_ONE",
    "WEIGHT_ONE_MASKED",
    "Aggregation",
    "Argument",
    "Arguments",
    "Clipping",
    "Compression",
    "Drift",
    "Evaluation",
    "Gate",
    "Masked",
    "Measure",
    "Optimizer",
    "Parameters",
    "Policy",
    "PolicyError",
    "Privacy",
    "Quarantine",
    "Retention",
    "Robust",
    "Rollout",
    "Schedule",
    "Sealed",
    "Seeds",
    "Selection",
    "Share",
    "Spending",
    "Stage",
    "Staleness",
    "Statistic",
    "Stop",
    "Training",
    "check_policy",
    "compute_rho",
    "count_affordable",
    "count_epoch_versions",
    "find_effective_min",
    "join_shares",
    "name_judged_metric",
    "name_stored_codec",
    "parse",
    "to_fraction",
]
