"""The torch learner: a module of the policy's model, trained by the policy's loop or by the user's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from client_agent.learning.allow_list import is_built_in
from client_agent.learning.data import Part
from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.learner import Array, Arrays, Context, Metrics, Parameter, Role
from client_agent.learning.plugins import resolve
from client_agent.learning.pytorch.batches import Examples, convert
from client_agent.learning.pytorch.losses import make_loss
from client_agent.learning.pytorch.modules import (
    copy_module,
    describe_parameters,
    fill,
    find_roles,
    freeze,
    make_module,
    read_arrays,
)
from client_agent.learning.pytorch.scoring import score_module
from client_agent.learning.pytorch.training import train_module
from schemas.policy import Policy

# A process has many devices and few cores: threads inside one small product cost more than they gain.
torch.set_num_threads(1)


class TorchLearner:
    """A `Learner` of a policy's `model`; the module is made once a process, and copied for each training."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._module: nn.Module | None = None
        self._roles: dict[str, Role] = {}

    def count_elements(self) -> int | None:
        """How many elements the model has, without memory for them; None where only making it can tell."""
        # A user's own module answers for itself, and need not work without memory.
        if not is_built_in(self._policy.model):
            return None
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in make_module(self._policy).parameters())

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """The module's tensors, drawn from `seed`. Raises PluginError, ModelError."""
        torch.manual_seed(seed)
        module = make_module(self._policy)
        self._roles = find_roles(module, self._policy.parameters)
        freeze(module, self._roles)
        self._module = module
        return {**describe_parameters(module, self._roles)}

    def load(self, part: Part) -> Any:
        """The examples of the data plugin; for a loop of the user's own just as it gave them."""
        raw = part.read()
        if self._policy.training.train:
            return raw
        collate = self._policy.training.collate
        return convert(raw, collate=resolve(collate) if collate else None, where=f"data {part.plugin!r}")

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[dict[str, Array], Metrics]:
        """Local training from `start`. Raises LearnerError, PluginError."""
        module = self._make_copy(start)
        module.train()
        # Not torch.manual_seed, which also seeds devices that are not used and takes as long as a small training.
        torch.default_generator.manual_seed(context.seed)
        training = self._policy.training
        if training.train:
            metrics = call(f"{training.train!r}", resolve(training.train), module, data, context) or {}
        else:
            loss = train_module(module, data, policy=self._policy, loss=make_loss(training), version=context.version)
            metrics = {"loss": loss}
        return read_arrays(module, self._roles, "trained", "averaged", "local"), metrics

    def evaluate(self, parameters: Arrays, data: Any) -> Metrics:
        """The policy's metrics of a model. Raises LearnerError, PluginError."""
        module = self._make_copy(parameters)
        module.eval()
        if plugin := self._policy.evaluation.evaluate:
            return call(f"{plugin!r}", resolve(plugin), module, data)
        examples = data if isinstance(data, Examples) else convert(data, collate=None, where="the data")
        return score_module(module, examples, policy=self._policy, loss=make_loss(self._policy.training))

    def _make_copy(self, arrays: Arrays) -> nn.Module:
        if self._module is None:
            raise LearnerError("the model was not initialized")
        # Counters, hidden states and whatever else a module keeps would live on from device to device.
        module = copy_module(self._module)
        fill(module, arrays)
        return module
