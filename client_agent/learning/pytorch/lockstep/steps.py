"""One step of every lane: the gradients of all by vmap, then what the loop of `training` does with one.

Each lane's parameters are a row of one matrix. Everything behind the gradient works on the matrix, so that a policy's
optimizer costs a few operations, however many layers and devices there are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from client_agent.learning.learner import Array
from client_agent.learning.pytorch.forwarding import forward
from client_agent.learning.pytorch.lockstep.padded_losses import compute_padded
from client_agent.learning.pytorch.losses import Loss
from schemas.policy import Training

# What an optimizer may be given beside the fields of the policy, and how many matrices it remembers.
KNOWN_ARGUMENTS = {"sgd": {"nesterov"}, "adam": {"betas", "eps"}, "adamw": {"betas", "eps"}}
_MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the module, as a piece of each row."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Batch:
    """What all lanes take at one step: leading dimensions (lanes, width). `names`: where inputs have names."""

    columns: tuple[Tensor, ...]
    mask: Tensor
    names: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a step is made of."""

    module: nn.Module
    slots: tuple[Slot, ...]
    training: Training
    loss: Loss

    @property
    def moments(self) -> int:
        """How many matrices the optimizer remembers from step to step."""
        is_plain = self.training.optimizer == "sgd" and not self.training.momentum
        return 0 if is_plain else _MOMENTS[self.training.optimizer]

    def read_row(self, row: Array) -> dict[str, Array]:
        """The tensors in a row, by name."""
        cuts = np.cumsum([slot.size for slot in self.slots])[:-1]
        pieces = zip(self.slots, np.split(row, cuts), strict=True)
        return {slot.name: piece.reshape(slot.shape) for slot, piece in pieces}

    def call_module(self, flat: Tensor, inputs: Sequence[Tensor], *, names: tuple[str, ...] | None) -> Any:
        """What the module gives for a batch, with its parameters from a row."""
        pieces = torch.split(flat, [slot.size for slot in self.slots])
        values = {slot.name: piece.view(slot.shape) for slot, piece in zip(self.slots, pieces, strict=True)}
        named = tuple(inputs) if names is None else dict(zip(names, inputs, strict=True))
        return forward(lambda *given, **more: functional_call(self.module, values, given, more), named)

    def make_numbers(self, rate: float, *, step: int) -> Tensor:
        """The rate, and the corrections of Adam's moments at a step from 1 on."""
        first, second = self._read_betas()
        return torch.tensor([rate, 1 - first**step, math.sqrt(1 - second**step)])

    def step(
        self, state: Sequence[Tensor], batch: Batch, *, start: Tensor, active: Tensor, numbers: Tensor
    ) -> tuple[Tensor, ...]:
        """Parameters and moments after the step, and each lane's loss before it; a lane that is over stays."""
        flat = state[0]
        leaf = flat.detach().requires_grad_()
        with torch.enable_grad():
            losses = vmap(partial(self._compute_loss, names=batch.names))(leaf, (*batch.columns, batch.mask))
            # Each loss depends on its own row alone, so the gradient of their sum is each lane's own.
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
        after = self._apply(state, self._shape_gradient(gradient, flat - start), numbers=numbers)
        is_moving = active.unsqueeze(1)
        return (*[torch.where(is_moving, new, old) for new, old in zip(after, state, strict=True)], losses.detach())

    def _compute_loss(self, flat: Tensor, taken: tuple[Tensor, ...], *, names: tuple[str, ...] | None) -> Tensor:
        *inputs, labels, mask = taken
        return compute_padded(self.loss, self.call_module(flat, inputs, names=names), labels=labels, mask=mask)

    def _shape_gradient(self, gradient: Tensor, moved: Tensor) -> Tensor:
        """With FedProx's term, and bounded as torch's `clip_grad_norm_` does it."""
        training = self.training
        if training.algorithm == "fedprox":
            gradient = gradient + training.proximal_mu * moved
        if training.gradient_norm:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * (training.gradient_norm / (norm + 1e-6)).clamp(max=1.0)
        return gradient

    def _apply(self, state: Sequence[Tensor], gradient: Tensor, *, numbers: Tensor) -> tuple[Tensor, ...]:
        flat, (rate, correction, root), training = state[0], numbers.unbind(), self.training
        if training.optimizer == "adamw":
            flat = flat * (1 - rate * training.weight_decay)
        elif training.weight_decay:
            gradient = gradient + training.weight_decay * flat
        if training.optimizer != "sgd":
            first, second = self._read_betas()
            mean = state[1] * first + gradient * (1 - first)
            square = state[2] * second + gradient * gradient * (1 - second)
            epsilon = float(training.optimizer_arguments.get("eps", 1e-8))  # type: ignore[arg-type]
            return flat - rate / correction * mean / (square.sqrt() / root + epsilon), mean, square
        if not self.moments:
            return (flat - rate * gradient,)
        # Torch begins with the gradient itself, which is what a momentum of zeros comes to.
        buffer = state[1] * training.momentum + gradient
        is_ahead = bool(training.optimizer_arguments.get("nesterov"))
        return flat - rate * (gradient + training.momentum * buffer if is_ahead else buffer), buffer

    def _read_betas(self) -> tuple[float, float]:
        given: Any = self.training.optimizer_arguments.get("betas", (0.9, 0.999))
        return float(given[0]), float(given[1])
