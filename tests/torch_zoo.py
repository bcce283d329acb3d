"""Torch models, losses, metrics and loops as users write them, and the ways by which tests call them.

A policy names what stands here as `tests.torch_zoo:NAME`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client_agent.learning.data import Part
from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Context
from client_agent.learning.opening import TaskLearner, initialize, open_learner
from client_agent.learning.pytorch.batches import Examples, convert
from client_agent.learning.pytorch.copying import ModuleCopy
from client_agent.learning.pytorch.modules import list_tensors
from client_agent.learning.trainer import Trained
from schemas.policy import Policy
from schemas.tensors import Floats
from tests.worlds.builders import policy


def name_plugin(function: Any) -> str:
    """How a policy names something of this or of another test module."""
    return f"{function.__module__}:{function.__qualname__}"


def torch_policy(model: Any, **sections: Any) -> Policy:
    """A policy of a model that is a function of a test module."""
    return policy(model=name_plugin(model), **sections)


def open_torch(rules: Policy, seed: int = 0) -> TaskLearner:
    """The torch learner of a policy, at work on its own model."""
    learner = open_learner(rules)
    parameters = initialize(learner, seed)
    scale = rules.parameters.averaged_scale
    return TaskLearner(learner, Layout.describe_parameters(parameters, averaged_scale=scale), parameters)


def find_start(learner: TaskLearner) -> Model:
    """The version that a learner's model starts with."""
    arrays = {name: parameter.value for name, parameter in learner.parameters.items()}
    frozen = learner.layout.join_frozen(arrays) if learner.layout.frozen_size else None
    return Model(learner.layout.join(arrays), frozen)


def train_once(
    learner: TaskLearner,
    data: Any,
    *,
    model: Model | None = None,
    version: int = 0,
    state: Mapping[str, Any] | None = None,
) -> Trained:
    """One training from a version, by default the first; `data` as a data plugin gives them, or loaded."""
    rules: Policy = learner.learner._policy  # type: ignore[attr-defined]
    context = Context(version=version, seed=5, policy=rules, state=dict(state or {}))
    return learner.train(model or find_start(learner), data, context=context)


def read_raw(raw: Any) -> Examples:
    """Examples in what a data plugin gives."""
    return convert(raw, where="the test's data")


def read_rows(*columns: Any) -> Examples:
    """Examples side by side, labels last."""
    return read_raw(columns)


def read_delta(learner: TaskLearner, trained: Trained) -> dict[str, Floats]:
    """What a training changed, tensor by tensor."""
    return learner.layout.split(Model(trained.delta, np.zeros(learner.layout.frozen_size, np.float32)))


def copy_of(module: nn.Module) -> ModuleCopy:
    """A module as a training has it."""
    return ModuleCopy(module, dict(list_tensors(module)))


def make_rows(count: int = 12, width: int = 4, classes: int = 3, seed: int = 0) -> tuple[Floats, np.ndarray]:
    """Features, and labels that follow from them."""
    x = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    return x, (np.abs(x).argmax(axis=1) % classes).astype(np.int64)


# --- models ---------------------------------------------------------------------------------------------------------


def linear(inputs: int = 4, outputs: int = 3) -> nn.Module:
    """One layer."""
    return nn.Linear(inputs, outputs)


def batch_norm() -> nn.Module:
    """A layer and its statistics."""
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def in_precision(dtype: str) -> nn.Module:
    """Two layers in another precision."""
    precision: torch.dtype = getattr(torch, dtype)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).to(precision)


def frozen_backbone() -> nn.Module:
    """A first layer that asks for no gradient."""
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    module[0].requires_grad_(False)
    return module


class LowRank(nn.Module):
    """A linear layer with an adapter (LoRA, Hu et al. 2022)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs)
        self.lora_a = nn.Parameter(torch.randn(2, inputs) / 2)
        self.lora_b = nn.Parameter(torch.zeros(outputs, 2))

    def forward(self, features: Tensor) -> Tensor:
        adapted: Tensor = self.base(features) + features @ self.lora_a.T @ self.lora_b.T
        return adapted


def adapted() -> nn.Module:
    """Two adapters."""
    return nn.Sequential(LowRank(4, 6), nn.Tanh(), LowRank(6, 3))


class Tied(nn.Module):
    """One matrix for two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 4), nn.Linear(4, 4)
        self.outer.weight = self.inner.weight

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.outer(torch.tanh(self.inner(features)))
        return result


class Stateful(nn.Module):
    """Counts its calls in every place where a module can remember something, and learns only while it has not."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(1), persistent=False)
        self.count = 0
        self.seen: list[int] = []
        self.memory = torch.zeros(1)

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            self.memory += 1
            self.count += 1
            self.seen.append(self.count)
        remembered = float(self.calls) + float(self.memory) + self.count + len(self.seen)
        scores: Tensor = self.layer(features) * (1.0 if remembered <= 4 else 0.0)
        return scores


class Counting(nn.Module):
    """A buffer of whole numbers that lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            self.steps += 1
        scores: Tensor = self.layer(features)
        return scores


class Tables(nn.Module):
    """A floating table that lasts, which `moves` or stays as it is."""

    def __init__(self, *, moves: bool = False) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("positions", torch.arange(4.0))
        self.moves = moves

    def forward(self, features: Tensor) -> Tensor:
        if self.moves and self.training:
            self.positions += 0.5
        scores: Tensor = self.layer(features + self.positions)
        return scores


class WithHead(nn.Module):
    """A body for all, and a head of each device's own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.head(torch.tanh(self.body(features)))
        return scores


class Scaled(nn.Module):
    """A parameter without dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(1.5))

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.layer(features) * self.scale
        return scores


class Swapped(nn.Module):
    """Two layers of one shape, in an order of names that an argument turns."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        for name in ("second", "first") if turned else ("first", "second"):
            setattr(self, name, nn.Linear(4, 4))

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.second(torch.tanh(self.first(features)))
        return scores


class Tokens(nn.Module):
    """Scores (n, time, classes) for tokens (n, time), called by name as models of a hub are."""

    def __init__(self, *, classes: int = 7, is_object: bool = True) -> None:
        super().__init__()
        self.table, self.layer, self.is_object = nn.Embedding(classes, 5), nn.Linear(5, classes), is_object

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        found = self.table(input_ids)
        if attention_mask is not None:
            found = found * attention_mask[..., None]
        scores = self.layer(found)
        return SimpleNamespace(logits=scores, loss=None) if self.is_object else {"scores": scores, "size": found}


class Returning(nn.Module):
    """A layer whose scores come in a form that an argument names."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(4, 3), form

    def forward(self, features: Tensor) -> Any:
        scores = self.layer(features)
        return {"pair": (scores, features), "mapping": {"scores": scores}, "number": 3.0, "one": scores[:, :1]}[
            self.form
        ]


def parametrized(way: str) -> nn.Module:
    """A layer with weight_norm, in torch's older or newer way, or with an activation that cannot be pickled."""
    if way == "old":
        return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)))
    if way == "new":
        return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)))
    module = nn.Linear(4, 3)
    module.register_forward_hook(lambda _, __, scores: scores * 2)
    return module


def many(count: int) -> nn.Module:
    """A great number of small tensors."""
    return nn.ParameterDict({f"layer_{place}": nn.Parameter(torch.ones(1)) for place in range(count)})


def refused(kind: str) -> nn.Module:
    """Models that cannot be trained."""
    layer = nn.Linear(4, 3)
    match kind:
        case "lazy":
            return nn.LazyLinear(3)
        case "lazy statistics":
            return nn.Sequential(nn.Linear(4, 3), nn.LazyBatchNorm1d(affine=False))
        case "meta":
            return nn.Linear(4, 3, device="meta")
        case "complex":
            return nn.Linear(4, 3, dtype=torch.complex64)
        case "frozen":
            return layer.requires_grad_(False)
        case "hook":
            layer.weight.register_hook(lambda gradient: gradient * 0)
        case "none":
            return nn.Flatten()
    return layer


def raising() -> nn.Module:
    """A model function with an error of its own (FAULT I)."""
    raise RuntimeError("weights file is not there")


def no_module() -> int:
    """No model at all."""
    return 3


# --- losses, metrics, optimizers and loops ----------------------------------------------------------------------------


def own_loss(outputs: Any, labels: Tensor | None, *, factor: float = 1.0) -> Tensor:
    """Of a dictionary or of a tensor."""
    scores = outputs["scores"] if isinstance(outputs, dict) else outputs
    if labels is None:
        return (scores**2).mean() * factor
    return nn.functional.cross_entropy(scores.flatten(0, -2), labels.flatten()) * factor


def loss_of_rows(outputs: Tensor, labels: Tensor) -> Tensor:
    """No mean: one number a row."""
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


def loss_of_nothing(outputs: Tensor, labels: Tensor) -> Tensor:
    """No gradient."""
    del labels
    return outputs.detach().mean()


def own_metric(outputs: Any, labels: np.ndarray) -> float:
    """How many rows there were in all."""
    scores = outputs["scores"] if isinstance(outputs, dict) else outputs
    assert isinstance(scores, np.ndarray)
    assert len(scores) == len(labels)
    return float(len(scores))


def text_metric(outputs: np.ndarray, labels: np.ndarray) -> str:
    """No number."""
    del outputs, labels
    return "good"


def own_collate(listed: list[Any]) -> tuple[Tensor, Tensor]:
    """Pads lists of token numbers."""
    width = max(len(tokens) for tokens, _ in listed)
    padded = [list(tokens) + [0] * (width - len(tokens)) for tokens, _ in listed]
    return torch.tensor(padded), torch.tensor([label for _, label in listed])


def own_training(model: nn.Module, data: Any, context: Context) -> dict[str, float]:
    """A loop with Adam, which tells what it was given."""
    x, y = (torch.from_numpy(column) for column in data)
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    context.state["trainings"] = context.state.get("trainings", 0) + 1
    return {"loss": float(loss.detach()), "version": context.version}


def bad_training(model: nn.Module, data: Any, context: Context) -> Any:
    """Whatever a loop should not do, by the first label."""
    del context
    sys.stdout.write("a word for people\n")
    match int(data[1][0]):
        case 0:
            raise KeyError("no such feature")
        case 1:
            return model
        case _:
            return None


def own_evaluation(model: nn.Module, data: Any) -> dict[str, float]:
    """The mean score."""
    x, _ = data
    return {"mean": float(model(torch.from_numpy(x)).mean()), "training": float(model.training)}


def part_in(folder: Path) -> Part:
    """The part of a device on a folder."""
    return Part(folder=folder, plugin="client_agent.learning.examples:folder_npz")
