"""The rollout: which version is tried, by whom, and which one counts, by the scores of evaluators alone.

* `deciding`: what each input causes. `make_decider` is the actor's pure half.
* `state`: what it knows, folded from its journal.
* `gates`: what the final scores say of a version, and the evidence for it.
* `drifting`: what drift that a measure task has found means for it.
* `held`: which models the aggregator keeps for it.
* `orders`: what the operator orders, and why an order changes nothing.
"""

from __future__ import annotations

from actors.deciders.rollout.deciding import RolloutInput, make_decider
from actors.deciders.rollout.state import Rollouts

__all__ = ["RolloutInput", "Rollouts", "make_decider"]
