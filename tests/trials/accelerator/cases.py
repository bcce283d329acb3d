"""What is trained and scored on two devices of torch: models, data and policies as users have them, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from client_agent.learning.learner import Context
from tests import torch_zoo as zoo

FULL = {"epochs": 3, "batch_size": 5, "learning_rate": 0.1}
ADAPTERS = {"trained": ["lora_*"]}
X, Y = zoo.make_rows(17)
VALUES = (X[:, :1] * 2 - X[:, 1:2]).astype(np.float32)
IMAGES = np.random.default_rng(2).normal(size=(9, 1, 8, 8)).astype(np.float32)
TOKENS = np.random.default_rng(3).integers(0, 7, (9, 6))
MASK = (np.random.default_rng(4).random((9, 6)) > 0.2).astype(np.float32)


class Pair(NamedTuple):
    """Two inputs with names."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True, kw_only=True)
class Case:
    """One policy with its data.

    `alike`: how near to the CPU it comes. "bits"; "rounding", where torch has another arithmetic for a CPU; "itself",
    where each device draws by itself, so that only its own repetition is alike.
    """

    model: Any
    data: Any
    sections: Mapping[str, Any] = field(default_factory=dict)
    alike: Literal["bits", "rounding", "itself"] = "bits"


class Apart(nn.Module):
    """A tensor that is neither parameter nor buffer, and stays where it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(4, 3), torch.ones(4)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.layer(features * self.scale)
        return scores


class OfPairs(nn.Module):
    """Two inputs that come as one tuple with names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, pair: Any) -> Tensor:
        scores: Tensor = self.layer(pair.left + pair.right)
        return scores


class Packed(nn.Module):
    """The last state of sequences of unequal length, as torch packs them."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, packed: Any) -> Tensor:
        padded, lengths = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
        scores: Tensor = self.layer(padded.sum(dim=1) / lengths.to(padded.device)[:, None])
        return scores


class Attending(nn.Module):
    """A block of a transformer over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.layer = nn.Linear(8, 7)

    def forward(self, input_ids: Tensor) -> Tensor:
        scores: Tensor = self.layer(self.block(self.table(input_ids)))
        return scores


def convolved() -> nn.Module:
    """Convolution, BatchNorm, pooling."""
    layers = (
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    return nn.Sequential(*layers)


def forgetful() -> nn.Module:
    """What it forgets is drawn where it is computed."""
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 3))


def as_probabilities() -> nn.Module:
    """For the losses of log-probabilities."""
    return nn.Sequential(nn.Linear(4, 3), nn.LogSoftmax(dim=-1))


def collate_pairs(listed: list[Any]) -> tuple[Any, Tensor]:
    """Inputs in a tuple with names."""
    x, y = torch.stack([torch.from_numpy(one) for one, _ in listed]), torch.tensor([int(label) for _, label in listed])
    return Pair(x, x * 2), y


def pack(listed: list[Any]) -> tuple[Any, Tensor]:
    """Sequences as torch packs them."""
    packed = nn.utils.rnn.pack_sequence([torch.from_numpy(one) for one, _ in listed], enforce_sorted=False)
    return packed, torch.tensor([int(label) for _, label in listed])


def train_moved(model: nn.Module, data: Any, context: Context) -> dict[str, float]:
    """A loop of a user's own that takes its data to the model, and keeps its optimizer's moments in its state."""
    device = next(model.parameters()).device
    x, y = (torch.from_numpy(column).to(device) for column in data)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    if "moments" in context.state:
        for parameter, (mean, square, steps) in zip(model.parameters(), context.state["moments"], strict=True):
            optimizer.state[parameter] = {
                "exp_avg": torch.from_numpy(mean).to(device),
                "exp_avg_sq": torch.from_numpy(square).to(device),
                "step": torch.tensor(float(steps)),
            }
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    found = [optimizer.state[parameter] for parameter in model.parameters()]
    context.state["moments"] = [
        [one["exp_avg"].cpu().numpy(), one["exp_avg_sq"].cpu().numpy(), float(one["step"])] for one in found
    ]
    return {"loss": loss.detach()}


def train_unmoved(model: nn.Module, data: Any, context: Context) -> None:
    """The same, by somebody who has only ever had a CPU."""
    del context
    x, y = map(torch.from_numpy, data)
    nn.functional.cross_entropy(model(x), y).backward()


def evaluate_moved(model: nn.Module, data: Any) -> dict[str, float]:
    """A user's own evaluation."""
    x, _ = (torch.from_numpy(column) for column in data)
    return {"mean": model(x.to(next(model.parameters()).device)).mean()}


def _train(**training: Any) -> dict[str, Any]:
    return {"training": {**FULL, **training}}


def _name(function: Any) -> str:
    return zoo.name_plugin(function)


def _of_tensor(case: Case, **training: Any) -> Case:
    return Case(model=case.model, data=case.data, sections=_train(**training))


SCORED = {"metrics": ["accuracy", "top2", "f1", "auroc", _name(zoo.own_metric)], "report": ["loss", "accuracy"]}
ROWS = Case(model=zoo.linear, data=(X, Y))
LINE = {"model": zoo.linear, "data": (X, VALUES.repeat(3, axis=1))}

CASES: dict[str, Case] = {
    "sgd": _of_tensor(ROWS),
    "momentum and decay": _of_tensor(ROWS, momentum=0.9, weight_decay=0.01),
    "adam": _of_tensor(ROWS, optimizer="adam", weight_decay=0.01),
    "adamw": _of_tensor(ROWS, optimizer="adamw"),
    "fedprox and clipped gradients": _of_tensor(ROWS, algorithm="fedprox", proximal_mu=0.3, gradient_norm=0.05),
    "steps": _of_tensor(ROWS, steps=5),
    "metrics of classes": Case(model=zoo.linear, data=(X, Y), sections={**_train(), "evaluation": SCORED}),
    "metrics of values": Case(
        **LINE,
        sections={**_train(loss="mse"), "evaluation": {"metrics": ["mae", "r2"], "report": ["loss", "mae", "r2"]}},
    ),
    "weights of classes": _of_tensor(ROWS, loss_arguments={"weight": [1.0, 2.0, 0.5], "label_smoothing": 0.1}),
    "huber": Case(**LINE, sections=_train(loss="huber", learning_rate=0.01)),
    "bce with weights": Case(
        model=zoo.linear,
        data=(X, (VALUES > 0).repeat(3, axis=1)),
        sections=_train(loss="bce", loss_arguments={"pos_weight": [2.0, 1.0, 1.0]}),
    ),
    "nll": Case(model=as_probabilities, data=(X, Y), sections=_train(loss="nll")),
    "own loss": _of_tensor(ROWS, loss=_name(zoo.own_loss)),
    "own optimizer": _of_tensor(ROWS, optimizer="torch.optim:RMSprop"),
    "averaged statistics": Case(model=zoo.batch_norm, data=(X, Y), sections=_train()),
    "local statistics": Case(
        model=zoo.batch_norm, data=(X, Y), sections={**_train(), "parameters": {"buffers": "local"}}
    ),
    "a buffer that counts": Case(model=zoo.Counting, data=(X, Y), sections=_train()),
    "a table": Case(model=zoo.Tables, data=(X, Y), sections=_train()),
    "a personal head": Case(
        model=zoo.WithHead, data=(X, Y), sections={**_train(), "parameters": {"local": ["head.*"]}}
    ),
    "frozen": Case(model=zoo.frozen_backbone, data=(X, Y), sections=_train()),
    "adapters": Case(model=zoo.adapted, data=(X, Y), sections={**_train(), "parameters": ADAPTERS}),
    "tied": Case(model=zoo.Tied, data=(X, Y), sections=_train()),
    "no dimensions": Case(model=zoo.Scaled, data=(X, Y), sections=_train()),
    "memory of a module": Case(model=zoo.Stateful, data=(X, Y), sections=_train(epochs=1, batch_size=32)),
    "convolution": Case(model=convolved, data=(IMAGES, Y[:9]), sections=_train()),
    "tokens by name": Case(
        model=zoo.Tokens, data={"input_ids": TOKENS, "attention_mask": MASK, "labels": TOKENS}, sections=_train()
    ),
    "a transformer": Case(
        model=Attending,
        data={"input_ids": TOKENS, "labels": TOKENS},
        sections={**_train(), "evaluation": {"metrics": ["perplexity", "accuracy"]}},
        alike="rounding",
    ),
    "a tuple with names": Case(
        model=OfPairs, data=[*zip(X, Y, strict=True)], sections=_train(collate=_name(collate_pairs))
    ),
    "packed sequences": Case(
        model=Packed, data=[(X[: 2 + place % 3], Y[place]) for place in range(8)], sections=_train(collate=_name(pack))
    ),
    "own training": Case(model=zoo.linear, data=(X, Y), sections={"training": {"train": _name(train_moved)}}),
    "own evaluation": Case(
        model=zoo.linear, data=(X, Y), sections={**_train(), "evaluation": {"evaluate": _name(evaluate_moved)}}
    ),
    "dropout": Case(model=forgetful, data=(X, Y), sections=_train(), alike="itself"),
}
PRECISIONS = ("float16", "bfloat16", "float64")
