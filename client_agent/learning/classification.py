"""Local training and evaluation with torch; models cross this module's border as one flat float32 vector.

The vector is the concatenation of the module's parameters in the order of `named_parameters`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from client_agent.learning.data import Examples
from client_agent.learning.plugins import PlugError, resolve
from schemas.canonical import decode, encode
from schemas.events import TensorSpec
from schemas.policy import Policy
from schemas.tensors import Floats

EVALUATION_BATCH = 1024
LOSS_MAX = 1e9  # what a loss that is not finite is reported as: a metric must be a number

# A process has many devices and few cores; threads inside one tiny product cost more than they bring.
torch.set_num_threads(1)


class ModelError(PlugError):
    """The model cannot be trained this way; the message says what to change."""

    code = "model_unusable"


@dataclass(frozen=True, slots=True)
class _Held:
    """A module that this process uses again and again (so by one thread only), and its parameters in order."""

    module: nn.Module
    parameters: tuple[nn.Parameter, ...]
    sizes: list[int]


def initial(policy: Policy, seed: int = 0) -> tuple[tuple[TensorSpec, ...], Floats]:
    """The model's tensors and its first parameters, drawn from `seed`. Raises PlugError, ModelError."""
    torch.manual_seed(seed)
    module = _made(policy.model, encode(policy.model_arguments))
    named = list(module.named_parameters())
    specs = tuple(TensorSpec(name=name, shape=tuple(parameter.shape)) for name, parameter in named)
    return specs, _flat([parameter for _, parameter in named])


def train(policy: Policy, flat: Floats, *examples: *Examples, seed: int) -> Floats:
    """What local SGD changes in `flat`, shape (parameters,): FedAvg, or FedProx with its proximal term.

    FedProx (Li et al. 2020, eq. 2) adds mu/2 * |w - w0|^2 to the loss, hence mu * (w - w0) to the gradient.
    """
    how = policy.training
    held = _held(policy)
    _fill(held, flat)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed costs as much as a small training
    held.module.train()
    optimizer = torch.optim.SGD(held.parameters, lr=how.learning_rate, momentum=how.momentum)
    start = [p.detach().clone() for p in held.parameters] if how.algorithm == "fedprox" else []
    features, labels = (torch.from_numpy(array) for array in examples)
    for _ in range(how.epochs):
        for batch in torch.split(torch.randperm(len(labels)), how.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(held.module(features[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            if how.algorithm == "fedprox":
                _pull(held, start, mu=how.proximal_mu)
            optimizer.step()
    return _flat(held.parameters) - flat


def evaluate(policy: Policy, flat: Floats, *examples: *Examples) -> dict[str, float]:
    """Accuracy and mean cross-entropy of the model `flat` on the examples; both finite."""
    held = _held(policy)
    _fill(held, flat)
    held.module.eval()
    (x, y), correct, loss = examples, 0, 0.0
    with torch.no_grad():
        for begin in range(0, len(y), EVALUATION_BATCH):
            labels = torch.from_numpy(y[begin : begin + EVALUATION_BATCH])
            outputs = held.module(torch.from_numpy(x[begin : begin + EVALUATION_BATCH]))
            correct += int((outputs.argmax(dim=1) == labels).sum())
            loss += float(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
    mean = loss / len(y)
    return {"accuracy": correct / len(y), "loss": min(mean, LOSS_MAX) if np.isfinite(mean) else LOSS_MAX}


def _pull(held: _Held, start: list[Tensor], *, mu: float) -> None:
    """The proximal term's gradient."""
    for parameter, origin in zip(held.parameters, start, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - origin, alpha=mu)


def _held(policy: Policy) -> _Held:
    return _kept(policy.model, encode(policy.model_arguments))


@lru_cache(maxsize=4)
def _kept(model: str, arguments: bytes) -> _Held:
    module = _made(model, arguments)
    parameters = tuple(module.parameters())
    return _Held(module, parameters, [parameter.numel() for parameter in parameters])


def _made(model: str, arguments: bytes) -> nn.Module:
    """A fresh module. Raises PlugError, ModelError."""
    given = decode(arguments, dict[str, int | float | str])
    try:
        module = resolve(model)(**given)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {model!r} with model_arguments {given}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"model {model!r} gave {type(module).__name__}, expected a torch.nn.Module")
    faults = [
        f"parameter {name} is {parameter.dtype}; only float32 is trained"
        for name, parameter in module.named_parameters()
        if parameter.dtype != torch.float32
    ]
    # state_dict has the buffers that are meant to last; a constant registered as not persistent does no harm.
    trained = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    faults += [
        f"{name} is a buffer that changes in training, and would not reach the server; use GroupNorm for BatchNorm"
        for name, value in module.state_dict().items()
        if name not in trained and value.is_floating_point()
    ]
    if not trained:
        faults.append("it has no parameters")
    if faults:
        raise ModelError(f"model {model!r}: " + "; ".join(faults))
    return module


def _fill(held: _Held, flat: Floats) -> None:
    """Set the module's parameters. Raises ModelError when `flat` is of another model."""
    if flat.size != sum(held.sizes):
        raise ModelError(f"the model has {sum(held.sizes)} parameters, the version {flat.size}; is it the same code?")
    parts = torch.split(torch.from_numpy(np.array(flat, np.float32)), held.sizes)
    with torch.no_grad():
        for parameter, part in zip(held.parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))


def _flat(parameters: Iterable[nn.Parameter]) -> Floats:
    return np.concatenate([parameter.detach().reshape(-1).numpy() for parameter in parameters])
