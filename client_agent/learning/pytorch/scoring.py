"""Metrics of a module on held-out examples: the loss, and scores of outputs against targets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score, r2_score, roc_auc_score
from torch import nn

from client_agent.learning.foreign import call
from client_agent.learning.plugins import PluginError, resolve
from client_agent.learning.pytorch.batches import Examples
from client_agent.learning.pytorch.losses import Loss
from client_agent.learning.pytorch.training import forward
from schemas.policy import Policy
from schemas.policy.learning import CLASSIFYING

# Reported for a loss that is not finite, because an event takes numbers only.
LOSS_MAX = 1e9

Values = npt.NDArray[Any]
Score = Callable[[Values, Values], float]


def score_module(module: nn.Module, examples: Examples, *, policy: Policy, loss: Loss) -> dict[str, float]:
    """The policy's metrics, all finite; the loss is the mean over the examples."""
    names = list_metrics(policy)
    outputs, targets, total = [], [], 0.0
    with torch.no_grad():
        for inputs, labels in examples.split(policy.evaluation.batch_size, shuffled=False):
            given = forward(module, inputs)
            total += float(loss(given, labels)) * len(labels)
            outputs.append(given.float().numpy() if isinstance(given, torch.Tensor) else given)
            targets.append(labels.numpy())
    mean = total / len(examples)
    found = {"loss": mean, "perplexity": float(np.exp(min(mean, 700.0)))}
    scores = {name: find_score(name, policy) for name in names if name not in found}
    # Only then, because the outputs of a large model need not be kept for its loss.
    if scores:
        joined = np.concatenate(outputs), np.concatenate(targets)
        found |= {name: float(score(*joined)) for name, score in scores.items()}
    return {name: _limit(found[name]) for name in names}


def list_metrics(policy: Policy) -> tuple[str, ...]:
    """The metrics of a task: the policy's, or what its loss suggests."""
    if policy.evaluation.metrics:
        return policy.evaluation.metrics
    return ("accuracy", "loss") if policy.training.loss in CLASSIFYING else ("loss",)


def find_score(name: str, policy: Policy) -> Score:
    """The function of outputs and targets that a metric is. Raises PluginError."""
    if ":" in name:
        return partial(call, f"metric {name}", resolve(name))
    score = _SCORES.get(name)
    if score is None:
        raise PluginError(f"metric {name!r}: fedlog knows {', '.join(sorted(_SCORES))}, or take 'module:callable'")
    return score


def _choose(outputs: Values) -> Values:
    """The class that each row of scores says; of one score a row, whether it is above zero."""
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        return (outputs.reshape(len(outputs)) > 0).astype(np.int64)
    best: Values = outputs.argmax(axis=-1)
    return best


def _measure_accuracy(outputs: Values, targets: Values) -> float:
    return float((_choose(outputs).reshape(-1) == targets.reshape(-1)).mean())


def _measure_top5(outputs: Values, targets: Values) -> float:
    best = np.argsort(outputs, axis=-1)[..., -5:]
    return float((best == targets[..., None]).any(axis=-1).mean())


def _measure_f1(outputs: Values, targets: Values) -> float:
    return float(f1_score(targets.reshape(-1), _choose(outputs).reshape(-1), average="macro", zero_division=0))


def _measure_auroc(outputs: Values, targets: Values) -> float:
    if outputs.ndim == 1 or outputs.shape[-1] == 1:
        return float(roc_auc_score(targets, outputs.reshape(len(outputs))))
    shifted = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    if shares.shape[1] == 2:
        return float(roc_auc_score(targets, shares[:, 1]))
    return float(roc_auc_score(targets, shares, multi_class="ovr", labels=range(shares.shape[1])))


def _measure_mae(outputs: Values, targets: Values) -> float:
    return float(np.abs(outputs.reshape(targets.shape) - targets).mean())


def _measure_r2(outputs: Values, targets: Values) -> float:
    return float(r2_score(targets, outputs.reshape(targets.shape)))


_SCORES: dict[str, Score] = {
    "accuracy": _measure_accuracy,
    "top5": _measure_top5,
    "f1": _measure_f1,
    "auroc": _measure_auroc,
    "mae": _measure_mae,
    "r2": _measure_r2,
}


def _limit(value: float) -> float:
    return min(value, LOSS_MAX) if np.isfinite(value) else LOSS_MAX
