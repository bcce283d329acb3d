"""Metrics of a module over batches: what is asked for, always finite, whatever size the batches have."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from client_agent.learning.foreign import LearnerError
from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch import scoring
from client_agent.learning.pytorch.batches import convert
from client_agent.learning.pytorch.losses import make_loss
from client_agent.learning.pytorch.scoring import Scorecard, list_metrics, make_metric, score_module
from schemas.policy import Training
from tests import torch_zoo as zoo


def score(module: nn.Module, raw: Any, **sections: Any) -> dict[str, float]:
    rules = zoo.torch_policy(zoo.linear, **sections)
    loss = make_loss(rules.training)
    return score_module(zoo.copy_of(module.eval()), convert(raw, where="x"), policy=rules, loss=loss)


@pytest.mark.parametrize("batch_size", [1, 5, 1024])
def test_a_sequence_is_scored_by_token(batch_size: int) -> None:
    """Guarantee: the loss is the mean over tokens that count, and perplexity its exponential, for any batch."""
    model = zoo.Tokens(classes=7)
    tokens = np.random.default_rng(0).integers(0, 7, (13, 6))
    labels = tokens.copy()
    labels[3], labels[5, 2:], labels[7:9, 1:] = -100, -100, -100
    found = score(
        model,
        {"input_ids": tokens, "labels": labels},
        evaluation={"metrics": ["perplexity", "accuracy"], "batch_size": batch_size},
    )
    with torch.no_grad():
        outputs = model(torch.from_numpy(tokens)).logits
    loss = float(functional.cross_entropy(outputs.flatten(0, 1), torch.from_numpy(labels).flatten()))
    assert list(found) == ["perplexity", "accuracy", "loss"]
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)


def test_metrics_follow_from_the_loss() -> None:
    """Guarantee: without a list there are the loss and, of classes, the accuracy; the loss is always there."""
    suggested = {
        "cross_entropy": ("accuracy", "loss"),
        "nll": ("accuracy", "loss"),
        "bce": ("accuracy", "loss"),
        "mse": ("loss",),
        "ctc": ("loss",),
        "a:b": ("loss",),
    }
    for name, expected in suggested.items():
        assert list_metrics(zoo.torch_policy(zoo.linear, training={"loss": name})) == expected
    assert list_metrics(zoo.torch_policy(zoo.linear, evaluation={"metrics": ["f1"]})) == ("f1", "loss")


def test_a_model_that_has_diverged_has_finite_metrics() -> None:
    """Guarantee: an event takes finite numbers only, and the worst of a loss is not the best of an accuracy."""
    model = zoo.linear()
    nn.init.constant_(model.weight, torch.inf)
    found = score(model, zoo.make_rows(), evaluation={"metrics": ["perplexity", "accuracy", "auroc"]})
    assert found["loss"] == found["perplexity"] == scoring.LOSS_MAX
    assert 0 <= found["accuracy"] <= 1
    assert "auroc" not in found
    values = {"training": {"loss": "mse"}, "evaluation": {"metrics": ["r2", "mae"]}}
    far = nn.Linear(4, 1)
    nn.init.constant_(far.weight, 1e15)
    x, y = zoo.make_rows()
    found = score(far, (x, y.astype(np.float32)), **values)
    assert found["r2"] == -scoring.LOSS_MAX
    assert found["mae"] == scoring.LOSS_MAX


def test_own_metrics_see_all_examples_at_once() -> None:
    """Guarantee: a metric plugin gets whole arrays, or the dictionary that the model gives, and returns a number."""
    own = zoo.name_plugin(zoo.own_metric)
    assert score(zoo.linear(), zoo.make_rows(), evaluation={"metrics": [own], "batch_size": 5})[own] == 12
    tokens = np.random.default_rng(0).integers(0, 7, (13, 6))
    found = score(
        zoo.Tokens(is_object=False),
        {"input_ids": tokens, "labels": tokens},
        training={"loss": zoo.name_plugin(zoo.own_loss)},
        evaluation={"metrics": [own], "batch_size": 4},
    )
    assert found[own] == 13
    with pytest.raises(LearnerError, match="text_metric' gave str, expected a number"):
        score(zoo.linear(), zoo.make_rows(), evaluation={"metrics": [zoo.name_plugin(zoo.text_metric)]})


def test_own_metrics_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: outputs that are kept for a metric plugin have a bound, and the message names the plugin."""
    monkeypatch.setattr(scoring, "KEPT_MAX", 30)
    with pytest.raises(LearnerError, match="own_metric' needs all outputs at once, and these are over 30"):
        score(zoo.linear(), zoo.make_rows(), evaluation={"metrics": [zoo.name_plugin(zoo.own_metric)]})


def test_a_metric_that_cannot_read_outputs_is_named() -> None:
    """Guarantee: accuracy of a dictionary, or without labels, says what to take instead."""
    rules = {"training": {"loss": zoo.name_plugin(zoo.own_loss)}, "evaluation": {"metrics": ["accuracy"]}}
    x, y = zoo.make_rows()
    with pytest.raises(LearnerError, match="'accuracy' compares a tensor with labels, and there are dict and Tensor"):
        score(zoo.Returning("mapping"), (x, y), **rules)
    with pytest.raises(LearnerError, match="there are Tensor and NoneType"):
        score(zoo.linear(), {"input": x}, **rules)
    with pytest.raises(LearnerError, match=r"metric 'mae': .*for labels"):
        score(zoo.linear(), (x, y), training=rules["training"], evaluation={"metrics": ["mae"]})


def test_labels_that_are_all_ignored_have_no_score() -> None:
    """Guarantee: a held-out set without a label that counts is an error, not a loss of zero."""
    x, y = zoo.make_rows()
    with pytest.raises(LearnerError, match="no label that counts"):
        score(zoo.linear(), (x, np.full_like(y, -100)))


def test_metrics_have_names_that_are_known() -> None:
    """Guarantee: a name that is none of fedlog's and no plugin lists those that are."""
    loss = make_loss(Training())
    with pytest.raises(PluginError, match=r"'acc': fedlog knows loss, perplexity, accuracy, .*r2, or take"):
        make_metric("acc", loss)
    card = Scorecard(("loss",), loss)
    card.add(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), value=0.5)
    assert card.compute() == {"loss": 0.5}
