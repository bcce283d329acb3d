"""The local loop: SGD or another optimizer over batches, FedProx's term, clipped gradients, a rate by version."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError
from client_agent.learning.opening import call_plugin
from client_agent.learning.plugins import resolve
from client_agent.learning.pytorch.batches import Examples
from client_agent.learning.pytorch.losses import Loss
from schemas.policy import Policy, Schedule, Training


def train_module(module: nn.Module, examples: Examples, *, policy: Policy, loss: Loss, version: int) -> float:
    """Train in place; the mean loss of all steps.

    FedProx (Li et al. 2020, eq. 2) adds mu/2 * |w - w0|^2 to the loss, hence mu * (w - w0) to the gradient.
    """
    training = policy.training
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    rate = training.learning_rate * compute_factor(policy.schedule, version)
    # Fresh under each lease: what it remembers would be of another start than the version's.
    optimizer = make_optimizer(parameters, training, rate=rate)
    origin = [p.detach().clone() for p in parameters] if training.algorithm == "fedprox" else []
    total, steps = 0.0, 0
    for inputs, targets in _list_batches(examples, training):
        optimizer.zero_grad(set_to_none=True)
        value = loss(forward(module, inputs), targets)
        _check_loss(value)
        value.backward()  # type: ignore[no-untyped-call]
        for parameter, start in zip(parameters, origin, strict=False):
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=training.proximal_mu)
        if training.gradient_norm:
            nn.utils.clip_grad_norm_(parameters, training.gradient_norm)
        optimizer.step()
        total, steps = total + float(value.detach()), steps + 1
    return total / steps


def forward(module: nn.Module, inputs: Any) -> Any:
    """What the module gives for a batch; of an object with `logits`, as hubs' models give, those."""
    outputs = module(**inputs) if isinstance(inputs, dict) else module(*inputs)
    outputs = getattr(outputs, "logits", outputs)
    if not isinstance(outputs, Tensor | tuple | dict):
        raise LearnerError(f"the model returned {type(outputs).__name__}, expected a tensor")
    return outputs


def compute_factor(schedule: Schedule, version: int) -> float:
    """What the learning rate is multiplied by at a version; cosine as in SGDR (Loshchilov and Hutter 2017, eq. 5)."""
    warm = min(1.0, (version + 1) / (schedule.warmup_versions + 1))
    match schedule.rule:
        case "step":
            return warm * schedule.decay ** (version // schedule.step_versions)
        case "exponential":
            return warm * float(schedule.decay**version)
        case "cosine":
            done = min(1.0, version / schedule.cosine_versions)
            return warm * (schedule.floor + (1 - schedule.floor) * (1 + math.cos(math.pi * done)) / 2)
        case _:
            return warm


def make_optimizer(parameters: list[nn.Parameter], training: Training, *, rate: float) -> torch.optim.Optimizer:
    """A fresh optimizer, as each lease begins with one. Raises PluginError."""
    decay = training.weight_decay
    match training.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, lr=rate, momentum=training.momentum, weight_decay=decay)
        case "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)
        case plugin:
            make: Callable[..., Any] = resolve(plugin)
            return call_plugin(  # type: ignore[no-any-return]
                f"optimizer {plugin}", make, parameters=parameters, learning_rate=rate
            )


def _list_batches(examples: Examples, training: Training) -> Iterator[tuple[Any, Any]]:
    epochs = range(training.epochs) if training.steps == 0 else count()
    batches = (batch for _ in epochs for batch in examples.split(training.batch_size, shuffled=True))
    return islice(batches, training.steps) if training.steps else batches


def _check_loss(value: Any) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise LearnerError(f"the loss is {shape}, expected one number: take its mean")
    # Otherwise torch says that it does not require grad, and not what that means here.
    if not value.requires_grad:
        raise LearnerError("the loss does not depend on anything that trains")
