"""A Flower app's query as the question of a measure task; a policy names `query` as plugin, and `part` as data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from client_agent.learning.data import Part
from client_agent.learning.flower.learner import ClientApp, Node
from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Arrays, Context


def part(part: Part) -> list[Part]:
    """The part itself: an app reads its data by the number."""
    return [part]


def query(
    parameters: Arrays, data: Sequence[Part], *, context: Context, app: str, run_config: Sequence[str] = ()
) -> dict[str, Any]:
    """What the app's ClientApp answers to a query: those of its metrics that the policy asks for, by name.

    A number becomes a statistic of shape [], a list one of shape [n]. `run_config` as in the learner.
    """
    del parameters
    if len(data) != 1 or not isinstance(data[0], Part):
        raise LearnerError('a Flower app reads its data itself: data = "client_agent.learning.flower:part"')
    asked = context.policy.measure.statistics if context.policy.measure else {}
    metrics = _open(app, (run_config,) if isinstance(run_config, str) else tuple(run_config)).query(
        Node(data[0]), context
    )
    return {name: np.asarray(value, np.float64) for name, value in metrics.items() if name in asked}


# All devices of a process share the app's, as they share a learner.
@cache
def _open(app: str, run_config: tuple[str, ...]) -> ClientApp:
    return ClientApp(app, run_config=run_config)
