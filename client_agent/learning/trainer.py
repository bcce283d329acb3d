"""What a device asks for under a lease, whatever its task wants of it: a bounded vector, metrics, and a state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from schemas.tensors import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The result of one training; `delta` has shape (parameters,), `state` is what the device remembers of it."""

    delta: Floats
    metrics: dict[str, float] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains with the examples of one device."""

    @property
    def sample_count(self) -> int:
        """How many examples it has."""
        ...

    def train(self, model: Model, context: Context) -> Trained:
        """What training changes in a version's vector. Raises FedlogError."""
        ...


@dataclass(frozen=True, slots=True)
class Coming:
    """A training that a device is about to ask its trainer for."""

    trainer: Trainer
    model: Model
    context: Context
