"""The metrics that come with fedlog: each batch by batch, and equal to scikit-learn's on all examples at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as known

from client_agent.learning.foreign import LearnerError
from client_agent.learning.pytorch import scores
from client_agent.learning.pytorch.losses import make_loss
from client_agent.learning.pytorch.scores import METRICS
from schemas.policy import Training
from tests import torch_zoo as zoo

DRAW = np.random.default_rng(5)
ROWS = DRAW.normal(size=(200, 7)).astype(np.float32).round(1)
CLASSES = DRAW.integers(0, 6, 200)
YES = (DRAW.random(200) < 0.3).astype(np.float32)
SEVERAL = (DRAW.random((200, 7)) < 0.4).astype(np.float32)
TARGETS = (ROWS * 3 + DRAW.normal(size=ROWS.shape) + 1e4).astype(np.float32)


def take(name: str, loss: str, outputs: Any, labels: Any, **arguments: Any) -> float:
    """The metric over batches of unequal size."""
    metric = METRICS[name](make_loss(Training(loss=loss, loss_arguments=arguments)))
    for part in np.split(np.arange(len(outputs)), [1, 50, 51]):
        metric.add(torch.from_numpy(np.asarray(outputs)[part]), torch.from_numpy(np.asarray(labels)[part]))
    return metric.compute()


def softmax(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = torch.from_numpy(rows).double().softmax(1).numpy()
    return found


def area_of_rest() -> float:
    shares = softmax(ROWS)
    return float(np.mean([known.roc_auc_score(c == CLASSES, shares[:, c]) for c in range(6)]))


CASES: dict[str, tuple[str, str, Any, Any, float]] = {
    "accuracy": ("accuracy", "cross_entropy", ROWS, CLASSES, known.accuracy_score(CLASSES, ROWS.argmax(1))),
    "accuracy of shares": (
        "accuracy",
        "cross_entropy",
        ROWS,
        softmax(TARGETS - 1e4),
        float((ROWS.argmax(1) == TARGETS.argmax(1)).mean()),
    ),
    "accuracy, binary": ("accuracy", "bce", ROWS[:, :1], YES, known.accuracy_score(YES, ROWS[:, 0] > 0)),
    "accuracy, labels": ("accuracy", "bce", ROWS, SEVERAL, float(((ROWS > 0) == SEVERAL).mean())),
    "top2": ("top2", "cross_entropy", ROWS + DRAW.random((200, 7)) / 100, CLASSES, -1.0),
    "top5": ("top5", "cross_entropy", ROWS + DRAW.random((200, 7)) / 100, CLASSES, -1.0),
    "top10 of seven": ("top10", "cross_entropy", ROWS, CLASSES, 1.0),
    "f1": ("f1", "cross_entropy", ROWS, CLASSES, known.f1_score(CLASSES, ROWS.argmax(1), average="macro")),
    "f1, binary": ("f1", "bce", ROWS[:, 0], YES, known.f1_score(YES, ROWS[:, 0] > 0, average="macro")),
    "f1, labels": ("f1", "bce", ROWS, SEVERAL, known.f1_score(SEVERAL, ROWS > 0, average="macro")),
    "auroc": ("auroc", "cross_entropy", ROWS, CLASSES, area_of_rest()),
    "auroc of two": (
        "auroc",
        "cross_entropy",
        ROWS[:, :2],
        YES.astype(int),
        known.roc_auc_score(YES, ROWS[:, 1] - ROWS[:, 0]),
    ),
    "auroc, binary": ("auroc", "bce", ROWS[:, 0], YES, known.roc_auc_score(YES, ROWS[:, 0])),
    "auroc, labels": ("auroc", "bce", ROWS, SEVERAL, known.roc_auc_score(SEVERAL, ROWS)),
    "mae": ("mae", "mse", ROWS, TARGETS, known.mean_absolute_error(TARGETS, ROWS)),
    "r2": ("r2", "mse", TARGETS + ROWS, TARGETS, known.r2_score(TARGETS.astype(float), (TARGETS + ROWS).astype(float))),
    "r2 of one": (
        "r2",
        "huber",
        ROWS[:, :1] + 1,
        ROWS[:, 0],
        known.r2_score(ROWS[:, 0].astype(float), ROWS[:, 0].astype(float) + 1),
    ),
    "r2 of constants": ("r2", "mse", ROWS[:, 0], np.ones(200, np.float32), 0.0),
}


@pytest.mark.parametrize("case", CASES)
def test_a_metric_is_scikit_learns(case: str) -> None:
    """Guarantee: batch by batch every metric is what scikit-learn says of all examples."""
    name, loss, outputs, labels, expected = CASES[case]
    if name in ("top2", "top5"):
        expected = known.top_k_accuracy_score(CLASSES, outputs[:, :], k=int(name[3:]), labels=range(7))
    assert take(name, loss, outputs, labels) == pytest.approx(expected, rel=1e-5)


def test_tokens_that_are_ignored_are_in_no_metric() -> None:
    """Guarantee: padding of sequences counts neither as right nor as wrong."""
    outputs, tokens = ROWS.reshape(20, 10, 7), CLASSES.reshape(20, 10).copy()
    tokens[:, 6:] = -100
    kept = tokens.reshape(-1) >= 0
    for name, expected in (
        ("accuracy", known.accuracy_score(CLASSES[kept], ROWS[kept].argmax(1))),
        ("f1", known.f1_score(CLASSES[kept], ROWS[kept].argmax(1), average="macro")),
    ):
        assert take(name, "cross_entropy", outputs[:, :, :], tokens) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "outputs", "labels"),
    [
        ("auroc", ROWS[:, :2], np.ones(200, np.int64)),
        ("auroc", ROWS * np.nan, CLASSES),
        ("accuracy", ROWS, np.full(200, -100)),
        ("f1", ROWS, np.full(200, -100)),
    ],
)
def test_what_is_not_defined_is_no_number(name: str, outputs: Any, labels: Any) -> None:
    """Guarantee: AUROC over one class, or a metric over no label, is not made up."""
    assert np.isnan(take(name, "cross_entropy", outputs, labels))


def test_a_loss_of_the_users_own_reads_by_shape() -> None:
    """Guarantee: under a loss plugin one score a label is yes or no, and a row of scores is a choice."""
    own = zoo.name_plugin(zoo.own_loss)
    assert take("accuracy", own, ROWS[:, 0], YES) == known.accuracy_score(YES, ROWS[:, 0] > 0)
    assert take("accuracy", own, ROWS[:, :1], YES) == known.accuracy_score(YES, ROWS[:, 0] > 0)
    assert take("accuracy", own, ROWS, CLASSES) == known.accuracy_score(CLASSES, ROWS.argmax(1))


def test_memory_for_auroc_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a metric that keeps scores says so before it keeps too many."""
    monkeypatch.setattr(scores, "KEPT_MAX", 1000)
    with pytest.raises(LearnerError, match="more than 1000"):
        take("auroc", "cross_entropy", ROWS, CLASSES)


def test_shapes_that_do_not_fit_are_refused() -> None:
    """Guarantee: a metric forms no pairs by spreading."""
    with pytest.raises(LearnerError, match="for labels"):
        take("mae", "mse", ROWS, YES)


def test_a_mean_of_many_is_exact() -> None:
    """Guarantee: a sum of errors does not stop growing at float32's precision."""
    metric = METRICS["mae"](make_loss(Training(loss="mse")))
    for value in (float(1 << 24), 1.0, 1.0):
        metric.add(torch.tensor([value]), torch.zeros(1))
    assert metric.compute() == ((1 << 24) + 2) / 3
