"""The local loop: every option gives the numbers of the same loop in plain torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from client_agent.learning.foreign import LearnerError
from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch.batches import convert
from client_agent.learning.pytorch.losses import make_loss
from client_agent.learning.pytorch.training import LocalLoop, PlainSteps, compute_factor, make_optimizer
from schemas.policy import Schedule, Training
from tests import torch_zoo as zoo

RATE = 0.3
X, Y = zoo.make_rows(count=11)


def run(
    module: nn.Module, raw: Any = (X, Y), *, rate: float = RATE, report: tuple[str, ...] = (), **training: Any
) -> Any:
    """Train a module by the loop; its metrics."""
    rules = zoo.torch_policy(zoo.linear, training=training, evaluation={"report": report})
    copied = zoo.copy_of(module.train())
    torch.manual_seed(4)
    loop = LocalLoop(copied, rules, loss=make_loss(rules.training), shared=list(module.parameters()))
    return loop.run(convert(raw, where="x"), rate=rate)


def run_plainly(
    module: nn.Module,
    make: Callable[[list[nn.Parameter]], torch.optim.Optimizer],
    *,
    epochs: int = 1,
    steps: int = 0,
    change: Callable[[nn.Module], None] = lambda _: None,
) -> float:
    """The loop that a textbook has, on the same batches; the mean loss."""
    x, y = torch.from_numpy(X), torch.from_numpy(Y)
    optimizer, losses = make(list(module.parameters())), list[float]()
    torch.manual_seed(4)
    for _ in range(epochs if not steps else 1000):
        for batch in torch.split(torch.randperm(len(y)), 4):
            if steps and len(losses) == steps:
                return sum(losses) / len(losses)
            optimizer.zero_grad()
            loss = functional.cross_entropy(module(x[batch]), y[batch])
            loss.backward()
            change(module)
            optimizer.step()
            losses.append(float(loss))
    return sum(losses) / len(losses)


def assert_alike(one: nn.Module, other: nn.Module) -> None:
    for (name, tensor), expected in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    ("training", "make"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=RATE)),
        ({"momentum": 0.8}, lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.8)),
        ({"weight_decay": 0.1}, lambda p: torch.optim.SGD(p, lr=RATE, weight_decay=0.1)),
        (
            {"momentum": 0.8, "optimizer_arguments": {"nesterov": True}},
            lambda p: torch.optim.SGD(p, lr=RATE, momentum=0.8, nesterov=True),
        ),
        ({"optimizer": "adam"}, lambda p: torch.optim.Adam(p, lr=RATE)),
        (
            {"optimizer": "adam", "weight_decay": 0.1, "optimizer_arguments": {"betas": (0.5, 0.9)}},
            lambda p: torch.optim.Adam(p, lr=RATE, weight_decay=0.1, betas=(0.5, 0.9)),
        ),
        ({"optimizer": "adamw"}, lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=0.0)),
        ({"optimizer": "adamw", "weight_decay": 0.2}, lambda p: torch.optim.AdamW(p, lr=RATE, weight_decay=0.2)),
        ({"optimizer": "torch.optim:RMSprop"}, lambda p: torch.optim.RMSprop(p, lr=RATE)),
        (
            {"optimizer": "torch.optim:RMSprop", "optimizer_arguments": {"alpha": 0.5}},
            lambda p: torch.optim.RMSprop(p, lr=RATE, alpha=0.5),
        ),
    ],
)
def test_an_optimizer_is_torchs(training: dict[str, Any], make: Any) -> None:
    """Guarantee: each optimizer, with its options, moves every parameter exactly as torch's own does."""
    one = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    other = copy.deepcopy(one)
    metrics = run(one, batch_size=4, epochs=3, **training)
    assert metrics == {"loss": pytest.approx(run_plainly(other, make, epochs=3))}
    assert_alike(one, other)


def test_steps_go_on_over_epochs() -> None:
    """Guarantee: a number of steps is kept, over as many epochs as they take, or fewer."""
    for steps in (2, 3, 8):
        one = zoo.linear()
        other = copy.deepcopy(one)
        run(one, batch_size=4, steps=steps)
        run_plainly(other, lambda p: torch.optim.SGD(p, lr=RATE), steps=steps)
        assert_alike(one, other)


def test_gradients_are_clipped() -> None:
    """Guarantee: the norm of a step's gradients is cut as torch cuts it, over all parameters."""
    one = zoo.linear()
    other = copy.deepcopy(one)
    run(one, batch_size=4, gradient_norm=0.05)

    def clip(module: nn.Module) -> None:
        nn.utils.clip_grad_norm_(module.parameters(), 0.05)

    run_plainly(other, lambda p: torch.optim.SGD(p, lr=RATE), change=clip)
    assert_alike(one, other)


def test_fedprox_is_the_gradient_of_its_term() -> None:
    """Guarantee: FedProx adds mu/2 |w - w0|^2 to the loss (Li et al. 2020, eq. 2); fedavg ignores mu."""
    one = zoo.linear()
    other, third = copy.deepcopy(one), copy.deepcopy(one)
    origin = [parameter.detach().clone() for parameter in one.parameters()]
    run(one, batch_size=4, epochs=4, algorithm="fedprox", proximal_mu=0.7)

    def pull(module: nn.Module) -> None:
        pairs = zip(module.parameters(), origin, strict=True)
        sum(((parameter - start) ** 2).sum() * 0.35 for parameter, start in pairs).backward()  # type: ignore[union-attr]

    run_plainly(other, lambda p: torch.optim.SGD(p, lr=RATE), epochs=4, change=pull)
    for found, expected in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, expected)
    run(third, batch_size=4, epochs=4, proximal_mu=0.7)
    assert not torch.allclose(third.weight, one.weight)


def test_fedprox_leaves_what_is_local() -> None:
    """Guarantee: a device's own head is not pulled back to where the lease found it."""

    def train(mu: float) -> zoo.WithHead:
        torch.manual_seed(0)
        module = zoo.WithHead()
        # Several steps, because at the first one nothing is away from where it began.
        steps = {"algorithm": "fedprox", "proximal_mu": mu, "batch_size": 64, "epochs": 3}
        rules = zoo.torch_policy(zoo.WithHead, training=steps)
        copied = zoo.copy_of(module)
        loop = LocalLoop(copied, rules, loss=make_loss(rules.training), shared=list(module.body.parameters()))
        for parameter in module.body.parameters():
            parameter.requires_grad_(False)
        loop.run(convert((X, Y), where="x"), rate=RATE)
        return module

    assert torch.equal(train(0.0).head.weight, train(1.0).head.weight)


def test_rates_follow_the_version() -> None:
    """Guarantee: each rule is its formula, the warm-up is under every rule, and cosine stays at its floor."""
    step = Schedule(rule="step", step_versions=3, decay=0.5)
    assert [compute_factor(step, v) for v in (0, 2, 3, 7)] == [1, 1, 0.5, 0.25]
    falling = Schedule(rule="exponential", decay=0.9)
    assert [compute_factor(falling, v) for v in (0, 1, 2)] == [1, 0.9, pytest.approx(0.81)]
    cosine = Schedule(rule="cosine", cosine_versions=4, floor=0.2)
    expected = [0.2 + 0.8 * (1 + math.cos(math.pi * v / 4)) / 2 for v in range(5)]
    assert [compute_factor(cosine, v) for v in range(5)] == pytest.approx(expected)
    assert compute_factor(cosine, 1000) == pytest.approx(0.2)
    warm = Schedule(warmup_versions=3)
    assert [compute_factor(warm, v) for v in (0, 1, 2, 3, 9)] == [0.25, 0.5, 0.75, 1, 1]
    assert compute_factor(Schedule(rule="step", step_versions=1, decay=0.5, warmup_versions=1), 0) == 0.5
    assert compute_factor(Schedule(), 10**6) == 1


def test_a_last_example_alone_joins_its_neighbours_under_batch_norm() -> None:
    """Guarantee: nine examples by four are no error for BatchNorm, and every one of them is trained on."""
    x, y = zoo.make_rows(count=9)
    metrics = run(zoo.batch_norm(), (x, y), batch_size=4)
    assert math.isfinite(metrics["loss"])
    with pytest.raises(LearnerError, match=r"training\.batch_size, or selection\.samples_min"):
        run(zoo.batch_norm(), (x[:1], y[:1]), batch_size=4)


def test_metrics_of_the_training_are_taken_where_they_are_asked_for() -> None:
    """Guarantee: a device reports what its policy names, over all its steps, and computes nothing else."""
    module = zoo.linear()
    before = copy.deepcopy(module)
    metrics = run(module, batch_size=64, report=("accuracy", "perplexity", "loss"))
    scores = before(torch.from_numpy(X)).detach()
    loss = float(functional.cross_entropy(scores, torch.from_numpy(Y)))
    right = float((scores.argmax(1) == torch.from_numpy(Y)).float().mean())
    assert metrics == pytest.approx({"loss": loss, "accuracy": right, "perplexity": math.exp(loss)})


@pytest.mark.parametrize(
    ("loss", "outputs", "report"),
    [
        (
            "cross_entropy",
            3,
            ("loss", "accuracy", "top5", "f1", "auroc", "perplexity", zoo.name_plugin(zoo.own_metric)),
        ),
        ("mse", 1, ("loss", "mae", "r2")),
    ],
)
def test_every_metric_can_be_reported(loss: str, outputs: int, report: tuple[str, ...]) -> None:
    """Guarantee: metrics read outputs that a gradient hangs on, as those of a training are."""
    labels = Y if loss == "cross_entropy" else Y.astype(np.float32)
    metrics = run(zoo.linear(4, outputs), (X, labels), report=report, loss=loss, batch_size=4)
    assert set(metrics) == set(report)


def test_batches_without_a_label_are_passed_over() -> None:
    """Guarantee: padding alone moves nothing, and a device with nothing but padding says so."""
    labels = Y.copy()
    labels[4:] = -100
    metrics = run(zoo.linear(), (X, labels), batch_size=1)
    assert math.isfinite(metrics["loss"])
    with pytest.raises(LearnerError, match="no label that counts"):
        run(zoo.linear(), (X, np.full_like(Y, -100)))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss": zoo.name_plugin(zoo.loss_of_rows)}, r"loss_of_rows' gave a value of shape \(11,\).*take its mean"),
        ({"loss": zoo.name_plugin(zoo.loss_of_nothing)}, "does not depend on anything that trains"),
        ({"loss": zoo.name_plugin(zoo.own_metric)}, "own_metric'"),
    ],
)
def test_a_loss_that_is_no_loss_is_refused(training: dict[str, Any], message: str) -> None:
    """Guarantee: a loss plugin that gives rows, or nothing that a gradient comes from, is named."""
    with pytest.raises(LearnerError, match=message):
        run(zoo.linear(), **training)


def test_one_example_trains() -> None:
    """Guarantee: a device with one example takes its one step, whatever the size of a batch."""
    one = zoo.linear()
    other = copy.deepcopy(one)
    assert math.isfinite(run(one, (X[:1], Y[:1]), batch_size=4)["loss"])
    loss = functional.cross_entropy(other(torch.from_numpy(X[:1])), torch.from_numpy(Y[:1]))
    loss.backward()
    torch.optim.SGD(other.parameters(), lr=RATE).step()
    assert_alike(one, other)


@pytest.mark.parametrize("start", [math.inf, math.nan])
def test_a_training_that_diverges_stops(start: float) -> None:
    """Guarantee: a loss that is no number ends the training with its step, and what to change."""
    module = zoo.linear()
    nn.init.constant_(module.weight, start)
    with pytest.raises(LearnerError, match=r"the loss is \w+ at step 1: lower training\.learning_rate"):
        run(module)


def make_nothing(parameters: list[nn.Parameter], *, lr: float) -> dict[str, Any]:
    """No optimizer."""
    return {"parameters": parameters, "rate": lr}


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer_arguments": {"nesterov": True}}, "optimizer_arguments of 'sgd': Nesterov"),
        ({"optimizer": "adam", "optimizer_arguments": {"beta": 1}}, "optimizer_arguments of 'adam'"),
        ({"optimizer": f"{__name__}:make_nothing"}, "gave dict, which has no step"),
        ({"optimizer": "torch.optim:Nothing"}, "defines no callable 'Nothing'"),
    ],
)
def test_an_optimizer_that_cannot_be_made_is_refused(training: dict[str, Any], message: str) -> None:
    """Guarantee: arguments that do not fit, and plugins that make no optimizer, are named with their field."""
    parameters = list(zoo.linear().parameters())
    with pytest.raises(PluginError, match=message):
        make_optimizer(parameters, Training(**training), rate=0.1)


def test_plain_steps_leave_what_has_no_gradient() -> None:
    """Guarantee: a parameter that a batch did not use stays as it is."""
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    used.grad = torch.tensor([1.0, -2.0])
    PlainSteps([used, unused], 0.5).step()
    assert isinstance(used, Tensor)
    assert (used.tolist(), unused.tolist()) == ([0.5, 2.0], [1.0, 1.0])
