"""What a device asks of the code that trains; `classification.train` is one, and policies and options name others.

The `Learner` of a task type (first model, loading, training, evaluation) has its place here.
"""

from __future__ import annotations

from typing import Protocol

from client_agent.learning.data import Examples
from schemas.policy import Policy
from schemas.tensors import Floats


class Train(Protocol):
    """Local training, for instance `client_agent.learning.classification.train`."""

    def __call__(self, policy: Policy, flat: Floats, *examples: *Examples, seed: int) -> Floats:
        """What training on `examples` changes in the parameters `flat`, shape (parameters,)."""
        ...
