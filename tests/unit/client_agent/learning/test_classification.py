"""Local training and evaluation: it learns, FedProx is its formula, and models keep to the flat vector."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

from client_agent.learning import classification as training
from client_agent.learning.classification import ModelError, evaluate, initial, train
from client_agent.learning.data import Part, load
from schemas.policy import Policy, Training
from tests.worlds.device_world import policy

DIGITS = "client_agent.learning.examples:digits"


def with_model(name: str, **arguments: float) -> Policy:
    return msgspec.structs.replace(policy(), model=f"client_agent.learning.models:{name}", model_arguments=arguments)


def batch_norm() -> nn.Module:
    """A model that cannot be trained federatedly."""
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def no_module() -> int:
    return 3


def in_halves() -> nn.Module:
    return nn.Linear(2, 2).half()


class Constant(nn.Module):
    """A buffer that is no state."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("scale", torch.ones(2), persistent=False)


def constant() -> nn.Module:
    return Constant()


def test_training_learns_digits() -> None:
    """Guarantee: a few local passes lower the loss on held-out digits, for every model that comes along."""
    x, y = load(DIGITS, Part(count=1))
    test = load(DIGITS, Part(split="test"))
    for name, arguments in (("softmax_regression", {}), ("simple_cnn", {"side": 8, "width": 4})):
        task = with_model(name, **arguments)
        _, flat = initial(task)
        before = evaluate(task, flat, *test)
        for seed in range(3):
            flat += train(task, flat, x, y, seed=seed)
        after = evaluate(task, flat, *test)
        assert after["loss"] < before["loss"], name
        assert after["accuracy"] > 0.3, name


def test_a_training_repeats_by_its_seed() -> None:
    """Guarantee: same model, data and seed give the same delta; another seed another one; the model stays as it was."""
    x, y = load(DIGITS, Part(count=20))
    task = policy()
    _, flat = initial(task, seed=3)
    kept = flat.copy()
    first, other = train(task, flat, x, y, seed=1), train(task, flat, x, y, seed=2)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, train(task, flat, x, y, seed=1))
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(flat, kept)


def test_one_step_is_the_gradient() -> None:
    """Guarantee: one full batch of FedAvg is minus learning rate times the gradient of softmax regression."""
    x, y = load(DIGITS, Part(count=20))
    task = msgspec.structs.replace(policy(), training=Training(batch_size=4096, learning_rate=0.5))
    flat = np.random.default_rng(0).normal(0, 0.1, 650).astype(np.float32)
    weight, bias = flat[:640].reshape(10, 64), flat[640:]
    logits = x @ weight.T + bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    error = (chances - np.eye(10)[y]) / len(y)
    expected = -0.5 * np.concatenate([(error.T @ x).reshape(-1), error.sum(axis=0)])
    np.testing.assert_allclose(train(task, flat, x, y, seed=0), expected, atol=1e-6)


def test_fedprox_is_its_formula() -> None:
    """Guarantee: the second FedProx step adds -learning rate * mu * (w1 - w0) to FedAvg's (Li et al. 2020, eq. 2)."""
    x, y = load(DIGITS, Part(count=20))
    _, flat = initial(policy())

    def after(epochs: int, algorithm: str, mu: float) -> np.ndarray:
        how = Training(algorithm=algorithm, epochs=epochs, batch_size=4096, learning_rate=0.5, proximal_mu=mu)  # type: ignore[arg-type]
        return train(msgspec.structs.replace(policy(), training=how), flat, x, y, seed=0)

    step = after(1, "fedavg", 0.0)
    np.testing.assert_array_equal(after(1, "fedprox", 0.7), step)
    np.testing.assert_allclose(after(2, "fedprox", 0.7) - after(2, "fedavg", 0.7), -0.5 * 0.7 * step, atol=1e-6)


def test_momentum_counts() -> None:
    """Guarantee: the policy's momentum reaches the optimizer."""
    x, y = load(DIGITS, Part(count=20))
    _, flat = initial(policy())
    plain = msgspec.structs.replace(policy(), training=Training(epochs=3, momentum=0.0))
    heavy = msgspec.structs.replace(policy(), training=Training(epochs=3, momentum=0.9))
    assert np.linalg.norm(train(heavy, flat, x, y, seed=0)) > np.linalg.norm(train(plain, flat, x, y, seed=0))


def test_the_flat_vector_is_in_the_order_of_the_specs() -> None:
    """Guarantee: filling a module with a vector and reading it back gives the same vector, tensor by tensor."""
    task = with_model("simple_cnn", side=8)
    specs, flat = initial(task, seed=5)
    model = training._load_model(task, flat.size)
    training._fill(model, flat)
    at = 0
    for spec, (name, parameter) in zip(specs, model.module.named_parameters(), strict=True):
        size = parameter.numel()
        assert (spec.name, spec.shape) == (name, tuple(parameter.shape))
        np.testing.assert_array_equal(parameter.detach().numpy().reshape(-1), flat[at : at + size])
        at += size


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("softmax_regression", {"inputs": 10**12}),
        ("softmax_regression", {"inputs": 2**62, "classes": 2**62}),
        ("simple_cnn", {"width": 2**40}),
        ("resnet18", {"width": 8 * 10**6}),
    ],
)
def test_arguments_from_the_log_take_no_memory(name: str, arguments: dict[str, int]) -> None:
    """Guarantee: a model that comes along is made only in the size of the version that it is filled with."""
    _, flat = initial(policy())
    with pytest.raises(ModelError):
        train(with_model(name, **arguments), flat, np.ones((1, 64), np.float32), np.zeros(1, np.int64), seed=0)


@pytest.mark.parametrize(
    ("maker", "message"),
    [("batch_norm", "GroupNorm"), ("no_module", r"torch\.nn\.Module"), ("in_halves", "float32")],
)
def test_models_that_cannot_be_trained_are_refused(maker: str, message: str) -> None:
    """Guarantee: a model with running statistics, other dtypes, or none at all is refused with what to do."""
    with pytest.raises(ModelError, match=message):
        initial(msgspec.structs.replace(policy(), model=f"{__name__}:{maker}"))


def test_a_constant_buffer_is_fine() -> None:
    """Guarantee: a buffer that is declared not to last does not keep a model out."""
    specs, _ = initial(msgspec.structs.replace(policy(), model=f"{__name__}:constant"))
    assert [spec.name for spec in specs] == ["layer.weight", "layer.bias"]


def test_wrong_arguments_are_named() -> None:
    """Guarantee: model arguments that do not fit are named with the model."""
    with pytest.raises(ModelError, match="wheels"):
        initial(with_model("simple_cnn", wheels=4))


def test_a_version_of_another_model_is_refused() -> None:
    """Guarantee: parameters of another size are not squeezed into the model."""
    with pytest.raises(ModelError, match="650"):
        evaluate(policy(), np.zeros(7, np.float32), np.zeros((1, 64), np.float32), np.zeros(1, np.int64))


def test_a_loss_is_always_a_number() -> None:
    """Guarantee: a model that has diverged still has finite metrics, because an event takes nothing else."""
    flat = np.full(650, np.inf, np.float32)
    found = evaluate(policy(), flat, np.ones((2, 64), np.float32), np.array([0, 1]))
    assert found["loss"] == training.LOSS_MAX
