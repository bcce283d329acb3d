"""Trainings in lockstep: which fit, and that one that does not harms nobody but itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Context
from client_agent.learning.opening import TaskLearner
from client_agent.learning.trainer import Trained
from tests import torch_zoo as zoo

FAST = {"epochs": 2, "batch_size": 4, "learning_rate": 0.2}


def mlp() -> nn.Module:
    """Two layers."""
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


def with_dropout() -> nn.Module:
    """What it forgets is drawn anew at each step."""
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))


class Centred(nn.Module):
    """Subtracts the mean of the batch, so that rows depend on each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.layer(features)
        return outputs - outputs.mean(dim=0)


class Branching(nn.Module):
    """Looks at a value to choose its way."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.layer(features)
        return outputs if float(outputs.detach().sum()) > 0 else 2 * outputs


class Drawing(nn.Module):
    """Draws from Python's own numbers, which no operation of torch shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.calls = 0

    def forward(self, features: Tensor) -> Tensor:
        self.calls += 1
        outputs: Tensor = self.layer(features)
        return outputs * (3.0 if self.calls % 2 else -1.0)


class Looking(nn.Module):
    """Embeds whole numbers, of which its table has four."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.layer = nn.Embedding(4, 5), nn.Linear(5, 3)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.layer(self.table(features.long() % 4).mean(dim=1))
        return outputs


class Picking(nn.Module):
    """Picks outputs by whole numbers from 0 to 2, which it is given behind four features."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, features: Tensor, picked: Tensor) -> Tensor:
        outputs: Tensor = self.layer(features)
        return outputs + outputs.gather(1, picked)


def open_members(model: Any, data: list[Any], **sections: Any) -> tuple[TaskLearner, list[tuple[Any, Context]]]:
    rules = zoo.torch_policy(model, **{"training": FAST, **sections})
    learner = zoo.open_torch(rules)
    loaded = [zoo.read_rows(*columns) if isinstance(columns, tuple) else columns for columns in data]
    return learner, [(one, Context(version=3, seed=number, policy=rules)) for number, one in enumerate(loaded)]


def train_together(model: Any, data: list[Any], **sections: Any) -> list[Trained | None]:
    learner, members = open_members(model, data, **sections)
    return learner.train_together(zoo.find_start(learner), members)


def rows(count: int = 6) -> list[tuple[np.ndarray, np.ndarray]]:
    return [zoo.make_rows(5 + number, seed=number) for number in range(count)]


def check_beside_alone(model: Any, data: list[Any], **sections: Any) -> None:
    """Everybody learns together what it learns alone, and reports the same."""
    learner, members = open_members(model, data, **sections)
    start = zoo.find_start(learner)
    for found, (loaded, context) in zip(learner.train_together(start, members), members, strict=True):
        expected = learner.train(start, loaded, context=context)
        assert found is not None
        np.testing.assert_allclose(found.delta, expected.delta, rtol=1e-3, atol=2e-5)
        assert found.metrics == pytest.approx(expected.metrics, rel=1e-4)


@pytest.mark.parametrize(
    "training",
    [
        {"steps": 3},
        {"batch_size": 100},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.9, "optimizer_arguments": {"nesterov": True}},
        {"optimizer": "adam", "weight_decay": 0.1, "learning_rate": 0.01},
        {"optimizer": "adamw", "weight_decay": 0.1, "optimizer_arguments": {"betas": (0.8, 0.9), "eps": 1e-3}},
        {"gradient_norm": 0.1},
        {"batch_size": 100, "loss_arguments": {"weight": (1.0, 2.0, 0.5), "ignore_index": 1}},
        {"algorithm": "fedprox", "proximal_mu": 2.0},
        {"loss_arguments": {"weight": (1.0, 2.0, 0.5), "label_smoothing": 0.1}},
    ],
    ids=str,
)
def test_each_rule_of_the_loop_is_kept(training: dict[str, Any]) -> None:
    """Guarantee: optimizers, bounds, FedProx and a loss's arguments mean what they mean in the loop."""
    check_beside_alone(mlp, rows(), training={**FAST, **training})


@pytest.mark.parametrize("rule", ["step", "cosine"])
def test_a_schedule_moves_the_rate(rule: str) -> None:
    """Guarantee: the rate of a version is the one that the loop has."""
    check_beside_alone(mlp, rows(), schedule={"rule": rule, "step_versions": 2, "cosine_versions": 5})


@pytest.mark.parametrize("model", [zoo.frozen_backbone, zoo.adapted, zoo.Tied], ids=["frozen", "adapters", "tied"])
def test_modules_of_many_kinds_fit(model: Any) -> None:
    """Guarantee: what is frozen stays, and tied tensors stay tied."""
    check_beside_alone(model, rows())


@pytest.mark.parametrize("loss", ["mse", "huber", "bce"])
def test_losses_of_values_fit(loss: str) -> None:
    """Guarantee: a mean over values is one over the examples that are there, not over those that fill up."""
    data = [(x, np.abs(np.sin(x[:, :3]))) for x, _ in rows()]
    check_beside_alone(mlp, data, training={**FAST, "loss": loss})


def test_inputs_with_names_and_small_numbers_fit() -> None:
    """Guarantee: arrays by name reach the module by name, and bytes as whole numbers."""
    names = [{"features": x, "picked": (y[:, None] % 3).astype(np.uint8), "labels": y} for x, y in rows()]
    check_beside_alone(Picking, [zoo.read_raw(named) for named in names])


@pytest.mark.parametrize(
    ("model", "sections"),
    [
        (with_dropout, {}),
        (Centred, {}),
        (Branching, {}),
        (Drawing, {}),
        (Looking, {}),
        (zoo.batch_norm, {}),
        (zoo.Counting, {}),
        (mlp, {"training": {**FAST, "optimizer_arguments": {"dampening": 0.5}, "momentum": 0.9}}),
        (mlp, {"training": {**FAST, "train": zoo.name_plugin(zoo.own_training)}}),
        (mlp, {"training": {**FAST, "loss": zoo.name_plugin(zoo.own_loss)}}),
        (mlp, {"evaluation": {"report": ("accuracy",)}}),
        (mlp, {"parameters": {"local": ("2.*",)}}),
    ],
    ids=lambda given: (
        getattr(given, "__name__", None) or "-".join(name for section in given.values() for name in section)
    ),
)
def test_what_does_not_fit_is_left_to_the_loop(model: Any, sections: dict[str, Any]) -> None:
    """Guarantee: where a model or policy asks for what lockstep cannot give, every device trains by the loop."""
    assert train_together(model, rows(3), **sections) == [None] * 3


def break_label(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x, np.where(np.arange(len(y)) == 2, 7, y)


def break_sign(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x, np.where(np.arange(len(y)) == 2, -1, y)


def break_feature(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x * np.float32(1e38), y


@pytest.mark.parametrize("spoil", [break_label, break_sign, break_feature])
@pytest.mark.parametrize("place", [0, 3])
def test_a_bad_device_harms_only_itself(spoil: Any, place: int) -> None:
    """Guarantee: wrong labels and infinite losses leave the others' bits alone, and are told as the loop tells them."""
    good = train_together(zoo.linear, rows())
    data = rows()
    data[place] = spoil(*data[place])
    learner, members = open_members(zoo.linear, data)
    found = learner.train_together(zoo.find_start(learner), members)
    assert [number for number, one in enumerate(found) if one is None] == [place]
    for number, (one, other) in enumerate(zip(found, good, strict=True)):
        assert number == place or (one is not None and other is not None and np.array_equal(one.delta, other.delta))
    with pytest.raises(LearnerError, match=r"label 7|label -1|the loss is"):
        learner.train(zoo.find_start(learner), members[place][0], context=members[place][1])


def test_an_operation_that_fails_is_one_devices_own() -> None:
    """Guarantee: an index that a model does not have ends the training of its own device, and of no other."""
    picked = [np.full((5, 1), 40 if number == 2 else number % 3) for number in range(5)]
    found = train_together(Picking, [(zoo.make_rows(5)[0], one, np.arange(5) % 3) for one in picked])
    assert [one is None for one in found] == [False, False, True, False, False]


def test_a_model_is_judged_by_a_device_that_can_train() -> None:
    """Guarantee: a device with unusable examples that comes first does not keep the others from training together."""
    data = rows()
    data[0] = break_label(*data[0])
    assert sum(one is not None for one in train_together(mlp, data)) == 5


def test_torch_draws_as_before() -> None:
    """Guarantee: a training in lockstep leaves the loop its own draws: each begins with its device's seed."""
    learner, members = open_members(zoo.linear, rows(2))
    first = learner.train(zoo.find_start(learner), members[0][0], context=members[0][1])
    learner.train_together(zoo.find_start(learner), members)
    torch.rand(7)
    again = learner.train(zoo.find_start(learner), members[0][0], context=members[0][1])
    assert np.array_equal(first.delta, again.delta)
