"""The local loop: SGD or another optimizer over batches, FedProx's term, clipped gradients, a rate by version."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.plugins import PluginError, resolve
from client_agent.learning.pytorch.accelerators import Placement
from client_agent.learning.pytorch.batches import Batch, Examples
from client_agent.learning.pytorch.copying import ModuleCopy
from client_agent.learning.pytorch.forwarding import forward
from client_agent.learning.pytorch.losses import Loss, is_empty
from client_agent.learning.pytorch.scoring import Scorecard
from schemas.policy import Policy, Schedule, Training

# The optimizers that come with fedlog, and what each takes of the policy beside the rate.
_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], tuple[str, ...]]] = {
    "sgd": (torch.optim.SGD, ("momentum", "weight_decay")),
    "adam": (torch.optim.Adam, ("weight_decay",)),
    "adamw": (torch.optim.AdamW, ("weight_decay",)),
}


class Steps(Protocol):
    """What the loop asks of an optimizer."""

    def step(self) -> Any:
        """Step by the gradients."""
        ...


class PlainSteps:
    """The same numbers as torch's SGD without momentum, whose bookkeeping takes as long as a small model's gradient."""

    def __init__(self, parameters: Sequence[nn.Parameter], rate: float) -> None:
        self._parameters, self._rate = parameters, rate

    @torch.no_grad()
    def step(self) -> None:
        """w -= rate * gradient."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-self._rate)


class LocalLoop:
    """Trains a copy of a module in place by the policy, and tells the loss and the other metrics to report."""

    def __init__(self, copied: ModuleCopy, policy: Policy, *, loss: Loss, shared: Sequence[Tensor]) -> None:
        """`shared`: the tensors that train for all devices; FedProx keeps these, and no others, near their start."""
        self._module, self._training, self._loss = copied.module, policy.training, loss
        self._place = Placement.read_module(copied.module)
        self._parameters = [parameter for parameter in copied.module.parameters() if parameter.requires_grad]
        is_near = self._training.algorithm == "fedprox"
        self._origin = [(tensor, tensor.detach().clone()) for tensor in shared] if is_near else []
        # Of the loss the sum is enough; other metrics are only taken where the policy asks devices for them.
        wanted = policy.evaluation.report
        self._card = Scorecard(wanted, loss) if set(wanted) - {"loss"} else None
        self._total, self._steps = 0.0, 0

    def run(self, examples: Examples, *, rate: float) -> dict[str, float]:
        """Train; the metrics over all steps, each before its own step. Raises LearnerError, PluginError."""
        optimizer = make_optimizer(self._parameters, self._training, rate=rate)
        for batch in _list_batches(examples, self._training, joins_single=has_batch_norm(self._module)):
            self._step(batch, optimizer)
        if self._steps == 0:
            raise LearnerError("there is no label that counts: the loss ignores all of them")
        means = {"loss": self._total / self._steps}
        return means | self._card.compute() if self._card else means

    def _step(self, batch: Batch, optimizer: Steps) -> None:
        # As zero_grad does, without its bookkeeping, and for optimizers of any make.
        for parameter in self._parameters:
            parameter.grad = None
        outputs, targets = forward(self._module, self._place.place(batch[0])), self._place.place_labels(batch[1])
        value = self._loss.compute(outputs, targets)
        number = self._check_loss(value)
        if not math.isfinite(number):
            if is_empty(self._loss, number, batch=(outputs, targets)):
                return
            raise LearnerError(
                f"the loss is {number} at step {self._steps + 1}: lower training.learning_rate, or bound gradients "
                "with training.gradient_norm"
            )
        if self._card is not None:
            self._card.add(outputs, targets, value=number)
        value.backward()  # type: ignore[no-untyped-call]
        # FedProx (Li et al. 2020, eq. 2) adds mu/2 * |w - w0|^2 to the loss, hence mu * (w - w0) to the gradient.
        for tensor, start in self._origin:
            if tensor.grad is not None:
                tensor.grad.add_(tensor.detach() - start, alpha=self._training.proximal_mu)
        # Behind FedProx's term, so that the bound is one of the whole step.
        if self._training.gradient_norm:
            nn.utils.clip_grad_norm_(self._parameters, self._training.gradient_norm)
        optimizer.step()
        self._total, self._steps = self._total + number, self._steps + 1

    def _check_loss(self, value: Any) -> float:
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise LearnerError(f"loss {self._loss.name!r} gave a value {shape}, expected one number: take its mean")
        if not value.requires_grad:
            raise LearnerError(f"loss {self._loss.name!r} does not depend on anything that trains")
        return float(value.detach())


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


def make_optimizer(parameters: list[nn.Parameter], training: Training, *, rate: float) -> Steps:
    """A fresh optimizer, as each lease begins with one; a plugin is called as torch's own classes are.

    Raises LearnerError for what the plugin raises, PluginError for what it cannot be.
    """
    name, arguments = training.optimizer, training.optimizer_arguments
    if name == "sgd" and not (arguments or training.momentum or training.weight_decay):
        return PlainSteps(parameters, rate)
    if ":" in name:
        made = call(f"optimizer {name!r}", resolve(name), parameters, lr=rate, **arguments)
        if not callable(getattr(made, "step", None)):
            raise PluginError(f"optimizer {name!r} gave {type(made).__name__}, which has no step")
        return made  # type: ignore[no-any-return]
    kind, fields = _OPTIMIZERS[name]
    try:
        return kind(parameters, **{"lr": rate, **{field: getattr(training, field) for field in fields}, **arguments})
    # Torch answers an argument that is none with any kind of error.
    except Exception as error:
        raise PluginError(f"training.optimizer_arguments of {name!r}: {error}") from error


def has_batch_norm(module: nn.Module) -> bool:
    """Whether it normalises over the examples of a batch."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def _list_batches(examples: Examples, training: Training, *, joins_single: bool) -> Iterator[Batch]:
    # Each epoch is shuffled anew, also where steps end in the middle of one.
    epochs = range(training.epochs) if training.steps == 0 else count()
    batches = (
        batch
        for _ in epochs
        for batch in examples.split(training.batch_size, is_shuffled=True, joins_single=joins_single)
    )
    return islice(batches, training.steps) if training.steps else batches
