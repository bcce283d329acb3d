"""Losses by name: each is torch's own, weighs what it is a mean of, and refuses shapes that torch would misread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from client_agent.learning.foreign import LearnerError
from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch.losses import Loss, is_empty, make_loss
from schemas.policy import Training
from tests import torch_zoo as zoo

DRAW = torch.Generator().manual_seed(3)
SCORES, SEQUENCE = torch.randn(6, 4, generator=DRAW), torch.randn(3, 5, 4, generator=DRAW)
CLASSES, TOKENS = torch.tensor([0, 1, 2, 3, 1, 0]), torch.arange(15).reshape(3, 5) % 4
VALUES, TARGETS = torch.randn(6, generator=DRAW), torch.rand(6, generator=DRAW)


def loss_of(name: str, **arguments: Any) -> Loss:
    return make_loss(Training(loss=name, loss_arguments=arguments))


@pytest.mark.parametrize(
    ("name", "arguments", "outputs", "labels", "expected"),
    [
        ("cross_entropy", {}, SCORES, CLASSES, functional.cross_entropy(SCORES, CLASSES)),
        ("cross_entropy", {}, SCORES, CLASSES[:, None], functional.cross_entropy(SCORES, CLASSES)),
        (
            "cross_entropy",
            {},
            SCORES[:, :2],
            CLASSES > 1,
            functional.cross_entropy(SCORES[:, :2], (CLASSES > 1).long()),
        ),
        ("cross_entropy", {}, SEQUENCE, TOKENS, functional.cross_entropy(SEQUENCE.transpose(1, 2), TOKENS)),
        (
            "cross_entropy",
            {},
            SEQUENCE.transpose(1, 2),
            TOKENS,
            functional.cross_entropy(SEQUENCE.transpose(1, 2), TOKENS),
        ),
        (
            "cross_entropy",
            {"ignore_index": 3},
            SEQUENCE,
            TOKENS,
            functional.cross_entropy(SEQUENCE.transpose(1, 2), TOKENS, ignore_index=3),
        ),
        (
            "cross_entropy",
            {"label_smoothing": 0.2, "weight": (1, 2, 3, 4)},
            SCORES,
            CLASSES,
            functional.cross_entropy(SCORES, CLASSES, label_smoothing=0.2, weight=torch.tensor([1.0, 2, 3, 4])),
        ),
        ("cross_entropy", {}, SCORES, SCORES.softmax(1), functional.cross_entropy(SCORES, SCORES.softmax(1))),
        (
            "cross_entropy",
            {},
            SEQUENCE,
            SEQUENCE.softmax(2),
            functional.cross_entropy(SEQUENCE.transpose(1, 2), SEQUENCE.softmax(2).transpose(1, 2)),
        ),
        ("nll", {}, SCORES.log_softmax(1), CLASSES, functional.cross_entropy(SCORES, CLASSES)),
        ("bce", {}, VALUES, CLASSES > 1, functional.binary_cross_entropy_with_logits(VALUES, (CLASSES > 1).float())),
        ("bce", {"pos_weight": 2}, VALUES[:, None], TARGETS, None),
        ("mse", {}, VALUES[:, None], TARGETS, functional.mse_loss(VALUES, TARGETS)),
        ("mse", {}, VALUES, TARGETS[:, None], functional.mse_loss(VALUES, TARGETS)),
        ("mse", {}, SCORES, SCORES + 1, torch.tensor(1.0)),
        ("huber", {"delta": 0.5}, VALUES, TARGETS, functional.huber_loss(VALUES, TARGETS, delta=0.5)),
    ],
)
def test_a_loss_is_torchs(name: str, arguments: dict[str, Any], outputs: Tensor, labels: Tensor, expected: Any) -> None:
    """Guarantee: every loss has torch's value on every shape that the page names, to the last bit but rounding."""
    if name == "bce" and arguments:
        arguments = {"pos_weight": (2.0,)}
        weight = torch.tensor([2.0])
        expected = functional.binary_cross_entropy_with_logits(VALUES, TARGETS, pos_weight=weight)
    found = loss_of(name, **arguments).compute(outputs, labels)
    torch.testing.assert_close(found, expected)


def test_ctc_reads_lengths_from_the_padding() -> None:
    """Guarantee: the blank pads labels, and a text that is too long for its time does not make a batch infinite."""
    scores = torch.randn(2, 6, 5, generator=DRAW).log_softmax(2)
    labels = torch.tensor([[1, 2, 3], [4, 0, 0]])
    expected = functional.ctc_loss(scores.transpose(0, 1), labels, torch.tensor([6, 6]), torch.tensor([3, 1]))
    torch.testing.assert_close(loss_of("ctc").compute(scores, labels), expected)
    assert torch.isfinite(loss_of("ctc").compute(scores[:, :2], labels))
    with pytest.raises(LearnerError, match="ctc wants log-probabilities"):
        loss_of("ctc").compute(scores[0], labels)


@pytest.mark.parametrize(
    ("name", "arguments", "outputs", "labels"),
    [
        ("cross_entropy", {}, SEQUENCE, TOKENS),
        ("cross_entropy", {"ignore_index": 0}, SEQUENCE, TOKENS),
        ("cross_entropy", {"weight": (1.0, 2.0, 0.5, 3.0), "ignore_index": 1}, SCORES, CLASSES),
        ("cross_entropy", {}, SCORES, SCORES.softmax(1)),
        ("nll", {"ignore_index": 2}, SCORES.log_softmax(1), CLASSES),
        ("bce", {}, SCORES, (SCORES > 0).float()),
        ("mse", {}, SCORES, SCORES * 2),
        ("huber", {}, VALUES, TARGETS),
    ],
)
def test_means_of_batches_join_to_the_mean(name: str, arguments: dict[str, Any], outputs: Any, labels: Any) -> None:
    """Guarantee: weighted by what each averages over, the losses of unequal batches are the loss of all of them."""
    loss = loss_of(name, **arguments)
    batches = [(outputs[:1], labels[:1]), (outputs[1:], labels[1:])]
    weights = [loss.weigh(*batch) for batch in batches]
    joined = sum(float(loss.compute(*batch)) * weight for batch, weight in zip(batches, weights, strict=True) if weight)
    assert joined / sum(weights) == pytest.approx(float(loss.compute(outputs, labels)), rel=1e-5)


def test_a_batch_of_ignored_labels_is_empty() -> None:
    """Guarantee: a loss over nothing is told from one that has diverged."""
    loss, ignored = loss_of("cross_entropy"), torch.full((6,), -100)
    value = float(loss.compute(SCORES, ignored))
    assert np.isnan(value)
    assert is_empty(loss, value, batch=(SCORES, ignored))
    assert not is_empty(loss, value, batch=(SCORES * np.nan, CLASSES))
    assert not is_empty(loss, float("inf"), batch=(SCORES, ignored))


@pytest.mark.parametrize(
    ("name", "outputs", "labels", "message"),
    [
        (
            "cross_entropy",
            SCORES,
            CLASSES + 1,
            "label 4, and the model has 4 outputs: labels go from 0 to 3; do yours begin",
        ),
        ("cross_entropy", SCORES, CLASSES + 5, "label 8, .* labels go from 0 to 3$"),
        ("cross_entropy", SCORES, CLASSES - 1, "label -1, and the model has 4 outputs"),
        ("nll", SEQUENCE, TOKENS * 2, "label 6, and the model has 4 outputs"),
        ("cross_entropy", SCORES, TARGETS, "labels are no whole numbers: .*'mse'"),
        ("cross_entropy", VALUES, TARGETS, r"outputs \(6,\), and a loss of classes wants .*'bce', for values 'mse'"),
        ("cross_entropy", VALUES[:, None], CLASSES, r"outputs \(6, 1\)"),
        ("cross_entropy", SCORES, CLASSES[:4], r"outputs \(6, 4\) for labels \(4,\)"),
        ("mse", SCORES, TARGETS, r"outputs \(6, 4\) for labels \(6,\)"),
        ("mse", VALUES[:, None], TARGETS[:4], r"outputs \(6,\) for labels \(4,\)"),
        ("bce", VALUES, CLASSES, "label 3.0: bce wants labels from 0 to 1"),
        ("bce", VALUES, CLASSES - 1, "label -1.0: bce"),
    ],
)
def test_labels_that_do_not_fit_are_named(name: str, outputs: Tensor, labels: Tensor, message: str) -> None:
    """Guarantee: the message names the label or the shapes, and what the loss wants; no pair is formed by spreading."""
    with pytest.raises(LearnerError, match=message):
        loss_of(name).compute(outputs, labels)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mse", {"smoothing": 1.0}, "smoothing"),
        ("cross_entropy", {"label_smoothing": 7.0}, "loss_arguments of 'cross_entropy'"),
        ("cross_entropy", {"reduction": "sum"}, "leave it out"),
        ("cross_entropy", {"weight": 3}, "loss_arguments of 'cross_entropy'"),
        ("huber", {"delta": -1.0}, "loss_arguments of 'huber'"),
        ("nowhere:loss", {}, "cannot be imported"),
    ],
)
def test_arguments_are_tried_before_training(name: str, arguments: dict[str, Any], message: str) -> None:
    """Guarantee: a misspelt or impossible argument, or a plugin that is not there, is told when the task is made."""
    with pytest.raises(PluginError, match=message):
        loss_of(name, **arguments)


def test_a_loss_plugin_gets_what_the_model_gives() -> None:
    """Guarantee: own losses take dictionaries, labels or none, and arguments; they weigh by rows."""
    loss = loss_of(zoo.name_plugin(zoo.own_loss), factor=2.0)
    torch.testing.assert_close(
        loss.compute({"scores": SEQUENCE}, TOKENS) / 2, loss_of("cross_entropy").compute(SEQUENCE, TOKENS)
    )
    assert loss.weigh({"scores": SEQUENCE}, TOKENS) == 3
    assert loss.weigh({"size": [SCORES], "x": 3}, None) == 6
    assert loss.weigh(3.0, None) == 1


def test_errors_in_a_loss_plugin_are_its_own() -> None:
    """Guarantee: the message names the plugin, the error and the line."""
    with pytest.raises(LearnerError, match=r"loss 'tests\.torch_zoo:own_loss': .*torch_zoo\.py"):
        loss_of(zoo.name_plugin(zoo.own_loss)).compute({"other": SCORES}, CLASSES)
