"""Metrics of a module over batches of examples: the loss, scores of outputs against labels, and the user's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.plugins import PluginError, resolve
from client_agent.learning.pytorch.accelerators import Placement
from client_agent.learning.pytorch.batches import Examples
from client_agent.learning.pytorch.copying import ModuleCopy
from client_agent.learning.pytorch.forwarding import forward
from client_agent.learning.pytorch.losses import Loss, is_empty
from client_agent.learning.pytorch.scores import KEPT_MAX, METRICS, Metric
from schemas.policy import Policy
from schemas.policy.learning import list_scored

# Reported for a loss that is not finite, because an event takes numbers only.
LOSS_MAX = 1e9
_EXPONENT_MAX = 700.0


def score_module(copied: ModuleCopy, examples: Examples, *, policy: Policy, loss: Loss) -> dict[str, float]:
    """The policy's metrics; the loss is the mean over all that it is a mean of in a batch: rows, tokens, elements."""
    card, place = Scorecard(list_metrics(policy), loss), Placement.read_module(copied.module)
    with torch.no_grad():
        for inputs, labels in examples.split(policy.evaluation.batch_size, is_shuffled=False):
            outputs, targets = forward(copied.module, place.place(inputs)), place.place_labels(labels)
            card.add(outputs, targets, value=float(loss.compute(outputs, targets)))
    return card.compute()


def list_metrics(policy: Policy) -> tuple[str, ...]:
    """The metrics of a task: the policy's, or what its loss suggests; the loss is always among them."""
    return list_scored(policy.training, policy.evaluation)


class Scorecard:
    """Metrics by name, taken batch by batch."""

    def __init__(self, names: Sequence[str], loss: Loss) -> None:
        self._names, self._loss = names, loss
        self._total = self._weight = 0.0
        self._metrics = {name: make_metric(name, loss) for name in names if name not in ("loss", "perplexity")}

    def add(self, outputs: Any, labels: Any, *, value: float) -> None:
        """Take in a batch and its loss. Raises LearnerError, which names the metric."""
        # Where every label is ignored there is no loss, and nothing that it would be a mean of.
        if is_empty(self._loss, value, batch=(outputs, labels)):
            return
        # In training outputs still know how they came to be, and a metric needs none of it.
        outputs = outputs.detach() if isinstance(outputs, Tensor) else outputs
        weight = self._loss.weigh(outputs, labels)
        self._total, self._weight = self._total + value * weight, self._weight + weight
        for name, metric in self._metrics.items():
            _add(metric, (outputs, labels), name=name)

    def compute(self) -> dict[str, float]:
        """Finite numbers; a metric that is not defined for these examples is left out. Raises LearnerError."""
        if self._weight == 0:
            raise LearnerError("there is no label that counts: the loss ignores all of them")
        mean = self._total / self._weight
        found = {"loss": mean, "perplexity": math.exp(min(mean, _EXPONENT_MAX)) if math.isfinite(mean) else math.nan}
        # More is worse for these two, so a model that has diverged gets the worst there is.
        found = {name: value if abs(value) <= LOSS_MAX else LOSS_MAX for name, value in found.items()}
        found |= {name: metric.compute() for name, metric in self._metrics.items()}
        return {name: max(-LOSS_MAX, min(LOSS_MAX, found[name])) for name in self._names if not math.isnan(found[name])}


def make_metric(name: str, loss: Loss) -> Metric:
    """The metric of a name. Raises PluginError."""
    if ":" in name:
        return OwnMetric(name)
    if name not in METRICS:
        known = ", ".join(("loss", "perplexity", *METRICS))
        raise PluginError(f"metric {name!r}: fedlog knows {known}, or take 'module:callable'")
    return METRICS[name](loss)


class OwnMetric:
    """A user's `metric(outputs, targets)` of two arrays of all examples, or of dictionaries of these."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._function: Callable[[Any, Any], float] = resolve(name)
        self._outputs: list[Any] = []
        self._labels: list[Any] = []
        self._kept = 0

    def add(self, outputs: Any, labels: Any) -> None:
        """Keep a batch. Raises LearnerError where that becomes too much."""
        outputs, labels = _to_arrays(outputs), _to_arrays(labels)
        self._kept += _count(outputs) + _count(labels)
        if self._kept > KEPT_MAX:
            raise LearnerError(
                f"metric {self._name!r} needs all outputs at once, and these are over {KEPT_MAX} numbers"
            )
        self._outputs.append(outputs)
        self._labels.append(labels)

    def compute(self) -> float:
        """What the function says. Raises LearnerError."""
        value = call(f"metric {self._name!r}", self._function, _join(self._outputs), _join(self._labels))
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise LearnerError(f"metric {self._name!r} gave {type(value).__name__}, expected a number") from error


def _add(metric: Metric, batch: tuple[Any, Any], *, name: str) -> None:
    outputs, labels = batch
    # What a plugin can read is for its author to know.
    is_own = isinstance(metric, OwnMetric)
    if not is_own and not (isinstance(outputs, Tensor) and isinstance(labels, Tensor)):
        raise LearnerError(
            f"metric {name!r} compares a tensor with labels, and there are {type(outputs).__name__} and "
            f"{type(labels).__name__}: take metrics of your own, or 'loss' alone"
        )
    try:
        metric.add(outputs, labels)
    except (RuntimeError, IndexError, LearnerError) as error:
        raise LearnerError(f"metric {name!r}: {error}") from error


def _to_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {name: _to_arrays(part) for name, part in value.items()}
    return tuple(map(_to_arrays, value)) if isinstance(value, tuple | list) else value


def _count(value: Any) -> int:
    if isinstance(value, dict):
        value = tuple(value.values())
    return sum(map(_count, value)) if isinstance(value, tuple) else int(np.size(value))


def _join(batches: list[Any]) -> Any:
    """The batches one after the other, inside whatever holds them."""
    first = batches[0]
    if isinstance(first, np.ndarray):
        # A loss that a model tells itself is one number a batch.
        return np.concatenate([np.atleast_1d(batch) for batch in batches])
    if isinstance(first, dict):
        return {name: _join([batch[name] for batch in batches]) for name in first}
    return tuple(map(_join, map(list, zip(*batches, strict=True)))) if isinstance(first, tuple) else first
