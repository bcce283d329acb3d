"""Devices that train together: what one learns is its own, whoever else is there."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from client_agent.learning.learner import Context
from client_agent.learning.opening import TaskLearner
from client_agent.learning.trainer import Trained
from schemas.policy import Policy
from tests import torch_zoo as zoo

DEVICES = 40


def layers() -> nn.Module:
    """Widths that fit into no register, and functions that a rest of one would compute otherwise."""
    return nn.Sequential(nn.Linear(5, 7), nn.ELU(), nn.LayerNorm(7), nn.Linear(7, 3), nn.Mish(), nn.Linear(3, 3))


def narrow() -> nn.Module:
    """One number for an example."""
    return nn.Sequential(nn.Linear(5, 1), nn.Softplus(), nn.Flatten(0))


TRAININGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (layers, {"epochs": 2, "batch_size": 4, "learning_rate": 0.3}),
    "momentum and a bound": (
        layers,
        {"epochs": 3, "batch_size": 50, "learning_rate": 0.1, "momentum": 0.9, "gradient_norm": 0.5},
    ),
    "adamw and FedProx": (
        layers,
        {"steps": 7, "batch_size": 3, "optimizer": "adamw", "algorithm": "fedprox", "proximal_mu": 0.1},
    ),
    "one output": (narrow, {"epochs": 2, "batch_size": 4, "learning_rate": 0.3, "loss": "mse"}),
}


@cache
def open_training(name: str) -> tuple[TaskLearner, list[tuple[Any, Context]], list[bytes]]:
    """A learner, devices with 1 to 22 examples, and what each of them learns with all the others."""
    model, training = TRAININGS[name]
    learner = zoo.open_torch(zoo.torch_policy(model, training=training))
    members = [make_member(learner, number) for number in range(DEVICES)]
    return learner, members, [read(one) for one in learner.train_together(zoo.find_start(learner), members)]


def make_member(learner: TaskLearner, number: int) -> tuple[Any, Context]:
    rules: Policy = learner.learner._policy  # type: ignore[attr-defined]
    x, y = zoo.make_rows(1 + number * 7 % 22, width=5, seed=number)
    labels = y.astype(np.float32) if rules.training.loss == "mse" else y
    return zoo.read_rows(x, labels), Context(version=0, seed=number, policy=rules)


def read(trained: Trained | None) -> bytes:
    assert trained is not None
    return trained.delta.tobytes() + repr(trained.metrics).encode()


@given(st.sampled_from(sorted(TRAININGS)), st.lists(st.integers(0, DEVICES - 1), min_size=1, max_size=70))
@settings(max_examples=30, deadline=None)
def test_company_changes_no_bit(name: str, company: list[int]) -> None:
    """Guarantee: what a device learns is the same to the bit alone, with any others, and in any order."""
    learner, members, expected = open_training(name)
    found = learner.train_together(zoo.find_start(learner), [members[number] for number in company])
    assert [read(one) for one in found] == [expected[number] for number in company]


@given(st.sampled_from(sorted(TRAININGS)), st.integers(0, DEVICES - 1))
@settings(max_examples=20, deadline=None)
def test_together_is_as_alone(name: str, number: int) -> None:
    """Guarantee: a device learns together what it learns alone, up to rounding, from the same draws."""
    learner, members, expected = open_training(name)
    alone = learner.train(zoo.find_start(learner), members[number][0], context=members[number][1])
    together = np.frombuffer(expected[number][: alone.delta.nbytes], np.float32)
    np.testing.assert_allclose(together, alone.delta, rtol=1e-3, atol=2e-5)
