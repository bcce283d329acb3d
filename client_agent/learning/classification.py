"""Classification with torch: the first model, local training and evaluation.

Devices call `train`, `fedlog task create` calls `initial`, the evaluator calls `evaluate`. Outside this module a model
is one flat float32 vector: its parameters in the order of `named_parameters`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from client_agent.learning.allow_list import is_built_in
from client_agent.learning.data import Examples
from client_agent.learning.plugins import PluginError, resolve
from schemas.canonical import decode, encode
from schemas.events import TensorSpec
from schemas.policy import Policy
from schemas.tensors import Floats

# Bounds the memory that an evaluation takes.
EVALUATION_BATCH = 1024
# Reported for a loss that is not finite, because an event takes numbers only.
LOSS_MAX = 1e9

# A process has many devices and few cores: threads inside one small product cost more than they gain.
torch.set_num_threads(1)


class ModelError(PluginError):
    """The model cannot be trained this way; the message says what to change."""

    code = "model_unusable"


@dataclass(frozen=True, slots=True)
class _LoadedModel:
    """A module that this process reuses, in one thread only, and its parameters in order."""

    module: nn.Module
    parameters: tuple[nn.Parameter, ...]
    sizes: list[int]


def initial(policy: Policy, seed: int = 0) -> tuple[tuple[TensorSpec, ...], Floats]:
    """The model's tensors and its first parameters, drawn from `seed`. Raises PluginError, ModelError."""
    torch.manual_seed(seed)
    module = _make_module(policy.model, encode(policy.model_arguments))
    named = list(module.named_parameters())
    specs = tuple(TensorSpec(name=name, shape=tuple(parameter.shape)) for name, parameter in named)
    return specs, _flatten([parameter for _, parameter in named])


def train(policy: Policy, flat: Floats, *examples: *Examples, seed: int) -> Floats:
    """What local SGD changes in `flat`, shape (parameters,): FedAvg, or FedProx with its proximal term.

    FedProx (Li et al. 2020, eq. 2) adds mu/2 * |w - w0|^2 to the loss, hence mu * (w - w0) to the gradient.
    """
    training, model = policy.training, _load_model(policy, flat.size)
    _fill(model, flat)
    # Not torch.manual_seed, which also seeds devices that are not used and takes as long as a small training.
    torch.default_generator.manual_seed(seed)
    model.module.train()
    optimizer = torch.optim.SGD(model.parameters, lr=training.learning_rate, momentum=training.momentum)
    origin = [p.detach().clone() for p in model.parameters] if training.algorithm == "fedprox" else []
    features, labels = (torch.from_numpy(array) for array in examples)
    for _ in range(training.epochs):
        for batch in torch.split(torch.randperm(len(labels)), training.batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(model.module(features[batch]), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            if training.algorithm == "fedprox":
                _add_proximal_gradient(model, origin, mu=training.proximal_mu)
            optimizer.step()
    return _flatten(model.parameters) - flat


def evaluate(policy: Policy, flat: Floats, *examples: *Examples) -> dict[str, float]:
    """Accuracy and mean cross-entropy of the model `flat` on the examples; both finite."""
    model = _load_model(policy, flat.size)
    _fill(model, flat)
    model.module.eval()
    (x, y), correct, loss = examples, 0, 0.0
    with torch.no_grad():
        for begin in range(0, len(y), EVALUATION_BATCH):
            labels = torch.from_numpy(y[begin : begin + EVALUATION_BATCH])
            outputs = model.module(torch.from_numpy(x[begin : begin + EVALUATION_BATCH]))
            correct += int((outputs.argmax(dim=1) == labels).sum())
            loss += float(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
    mean = loss / len(y)
    return {"accuracy": correct / len(y), "loss": min(mean, LOSS_MAX) if np.isfinite(mean) else LOSS_MAX}


def _add_proximal_gradient(model: _LoadedModel, origin: list[Tensor], *, mu: float) -> None:
    for parameter, start in zip(model.parameters, origin, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - start, alpha=mu)


def _load_model(policy: Policy, count: int) -> _LoadedModel:
    return _load_cached(policy.model, encode(policy.model_arguments), count=count)


# A process trains hundreds of devices on a few models, so that each module is made once.
@lru_cache(maxsize=4)
def _load_cached(model: str, arguments: bytes, *, count: int) -> _LoadedModel:
    _check_size(model, arguments, count=count)
    module = _make_module(model, arguments)
    parameters = tuple(module.parameters())
    return _LoadedModel(module, parameters, [parameter.numel() for parameter in parameters])


def _check_size(model: str, arguments: bytes, *, count: int) -> None:
    """Nothing where a model that comes along has `count` parameters. Raises ModelError, and takes no memory for it."""
    # The arguments stand in the log beside a model of known size; a user's own module answers for itself.
    if not is_built_in(model):
        return
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in _make_module(model, arguments).parameters())
    if found != count:
        raise ModelError(f"model {model!r} has {found} parameters with the policy's arguments, the version {count}")


def _make_module(model: str, arguments: bytes) -> nn.Module:
    """A fresh module that can be trained federatedly. Raises PluginError, ModelError."""
    keywords = decode(arguments, dict[str, int | float | str])
    try:
        module = resolve(model)(**keywords)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ModelError(f"model {model!r} with model_arguments {keywords}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"model {model!r} returned {type(module).__name__}, expected a torch.nn.Module")
    if problems := _list_problems(module):
        raise ModelError(f"model {model!r}: " + "; ".join(problems))
    return module


def _list_problems(module: nn.Module) -> list[str]:
    """Why the module cannot be trained federatedly; empty when it can."""
    problems = [
        f"parameter {name} is {parameter.dtype}; only float32 is trained"
        for name, parameter in module.named_parameters()
        if parameter.dtype != torch.float32
    ]
    # state_dict holds the buffers that are meant to last; a constant registered as not persistent does no harm.
    trained = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    problems += [
        f"{name} is a buffer that changes in training, and would not reach the server; use GroupNorm for BatchNorm"
        for name, value in module.state_dict().items()
        if name not in trained and value.is_floating_point()
    ]
    if not trained:
        problems.append("it has no parameters")
    return problems


def _fill(model: _LoadedModel, flat: Floats) -> None:
    """Set the module's parameters. Raises ModelError when `flat` belongs to another model."""
    size = sum(model.sizes)
    if flat.size != size:
        raise ModelError(f"the model has {size} parameters, the version {flat.size}; is it the same code?")
    # A copy, because the version is read-only and torch warns of tensors over such memory.
    parts = torch.split(torch.from_numpy(np.array(flat, np.float32)), model.sizes)
    with torch.no_grad():
        for parameter, part in zip(model.parameters, parts, strict=True):
            parameter.copy_(part.view_as(parameter))


def _flatten(parameters: Iterable[nn.Parameter]) -> Floats:
    return np.concatenate([parameter.detach().reshape(-1).numpy() for parameter in parameters])
