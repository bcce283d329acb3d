"""What an operator orders of a rollout, for deciders, worlds and trials."""

from __future__ import annotations

from schemas.events import RolloutAction, RolloutOrdered
from tests.worlds.builders import DEPLOYMENT, TASK


def rollout_ordered(
    task: str = TASK, action: RolloutAction = "promote", *, version: int | None = None, number: int = 1
) -> RolloutOrdered:
    """What the operator orders of a rollout."""
    return RolloutOrdered(task=task, deployment=DEPLOYMENT, number=number, action=action, version=version)
