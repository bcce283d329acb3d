"""The metrics that come with fedlog, taken batch by batch: but for AUROC, memory does not grow with the examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from client_agent.learning.foreign import LearnerError
from client_agent.learning.pytorch.losses import Loss, align_classes, align_values
from schemas.policy.learning import CLASSIFYING, TOP_METRICS

Values = npt.NDArray[Any]
# What a metric that needs all outputs at once may hold of them, in elements.
KEPT_MAX = 1 << 26


class Metric(Protocol):
    """One metric over batches; NaN where it is not defined, as AUROC over one class."""

    def add(self, outputs: Any, labels: Any) -> None:
        """Take in a batch. Raises LearnerError for shapes that the metric cannot read."""
        ...

    def compute(self) -> float:
        """Its value over all batches."""
        ...


def reads_binary(outputs: Tensor, labels: Tensor, *, loss: Loss) -> bool:
    """Whether each score says yes above zero, and no below; else the largest of a row is the class."""
    if loss.name in CLASSIFYING or loss.name == "bce":
        return loss.name == "bce"
    return outputs.shape == labels.shape or outputs.shape[-1] == 1


def read_classes(outputs: Tensor, labels: Tensor, *, loss: Loss) -> tuple[Tensor, Tensor]:
    """Scores (rows, classes) and classes (rows,), without those that the loss ignores."""
    rows, classes = align_classes(outputs, labels)
    if classes.is_floating_point():
        return rows, classes.argmax(dim=1)
    named = classes != loss.ignored if loss.ignored is not None else None
    return (rows, classes) if named is None or bool(named.all()) else (rows[named], classes[named])


def _choose(outputs: Tensor, labels: Tensor, *, loss: Loss) -> tuple[Tensor, Tensor]:
    """The class chosen and the right one, for each that is to be chosen."""
    if reads_binary(outputs, labels, loss=loss):
        scores, shares = align_values(outputs, labels)
        return scores > 0, shares > 0.5
    rows, classes = read_classes(outputs, labels, loss=loss)
    return rows.argmax(dim=1), classes


@dataclass(slots=True)
class Accuracy:
    """The share of right choices."""

    loss: Loss
    right: int = 0
    count: int = 0

    def add(self, outputs: Any, labels: Any) -> None:
        """Count a batch."""
        chosen, classes = _choose(outputs, labels, loss=self.loss)
        self.right += int((chosen == classes).sum())
        self.count += classes.numel()

    def compute(self) -> float:
        """From 0 to 1."""
        return self.right / self.count if self.count else np.nan


@dataclass(slots=True)
class Top(Accuracy):
    """The share of rows whose right class is among the `best`."""

    best: int = 5

    def add(self, outputs: Any, labels: Any) -> None:
        """Count a batch."""
        rows, classes = read_classes(outputs, labels, loss=self.loss)
        best = rows.topk(min(self.best, rows.shape[1]), dim=1).indices
        self.right += int((best == classes[:, None]).any(dim=1).sum())
        self.count += len(classes)


@dataclass(slots=True)
class F1:
    """The mean of the F1 scores of all classes that occur; of several labels a row, over the labels."""

    loss: Loss
    # Three rows: right choices, choices, and occurrences, by class.
    counts: Values = field(default_factory=lambda: np.zeros((3, 0), np.int64))
    is_multilabel: bool = False

    def add(self, outputs: Any, labels: Any) -> None:
        """Count a batch."""
        chosen, classes = _choose(outputs, labels, loss=self.loss)
        self.is_multilabel = chosen.ndim > 1 and chosen.shape[-1] > 1
        if self.is_multilabel:
            chosen, classes = chosen.flatten(0, -2), classes.flatten(0, -2)
            found = torch.stack([(chosen & classes).sum(0), chosen.sum(0), classes.sum(0)]).cpu().numpy()
        else:
            found = _count_by_class(chosen.flatten().long(), classes.flatten().long())
        # Which classes there are shows only in the course of the batches.
        wider = max(found.shape[1], self.counts.shape[1])
        self.counts = _widen(self.counts, wider) + _widen(found, wider)

    def compute(self) -> float:
        """From 0 to 1; a class that is never right has 0."""
        right, chosen, occurring = self.counts
        both = chosen + occurring
        scores = 2 * right / np.maximum(both, 1)
        scores = scores if self.is_multilabel else scores[both > 0]
        return float(scores.mean()) if len(scores) else np.nan


def _count_by_class(chosen: Tensor, classes: Tensor) -> Values:
    width = int(max(chosen.max(), classes.max())) + 1 if len(classes) else 0
    listed = (classes[chosen == classes], chosen, classes)
    return np.stack([torch.bincount(places, minlength=width).cpu().numpy() for places in listed])


def _widen(counts: Values, width: int) -> Values:
    return np.pad(counts, ((0, 0), (0, width - counts.shape[1])))


@dataclass(slots=True)
class AreaUnderCurve:
    """AUROC: of two classes, or the mean over classes against the rest; it needs all scores at once."""

    loss: Loss
    scores: list[Values] = field(default_factory=list)
    classes: list[Values] = field(default_factory=list)
    kept: int = 0

    def add(self, outputs: Any, labels: Any) -> None:
        """Keep a batch. Raises LearnerError where that becomes too much."""
        if reads_binary(outputs, labels, loss=self.loss):
            scores, shares = align_values(outputs, labels)
            classes = shares > 0.5
        else:
            rows, classes = read_classes(outputs, labels, loss=self.loss)
            # Of two classes the difference ranks as their shares do; of more, scores of different rows say nothing.
            scores = rows[:, 1] - rows[:, 0] if rows.shape[1] == 2 else rows.softmax(dim=1)
        self.kept += scores.numel()
        if self.kept > KEPT_MAX:
            raise LearnerError(f"auroc needs all scores at once, and these are more than {KEPT_MAX}; evaluate fewer")
        self.scores.append(scores.cpu().numpy())
        self.classes.append(classes.cpu().numpy())

    def compute(self) -> float:
        """From 0 to 1; only over classes that occur and do not always occur."""
        scores, classes = np.concatenate(self.scores), np.concatenate(self.classes)
        # A model that has diverged ranks nothing.
        if not np.isfinite(scores).all():
            return np.nan
        if scores.ndim == 1:
            return _measure_area(classes.astype(bool), scores)
        several = classes if classes.ndim == 2 else classes[:, None] == np.arange(scores.shape[1])
        areas = [_measure_area(several[:, place], scores[:, place]) for place in range(scores.shape[1])]
        return float(np.mean(known)) if (known := [area for area in areas if not np.isnan(area)]) else np.nan


def _measure_area(is_class: Values, scores: Values) -> float:
    """How often a score of the class is above one of the rest, ties half (Mann and Whitney 1947, by ranks)."""
    positives = int(is_class.sum())
    negatives = len(is_class) - positives
    if positives == 0 or negatives == 0:
        return np.nan
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    surplus = ranks[places][is_class].sum() - positives * (positives + 1) / 2
    return float(surplus / positives / negatives)


@dataclass(slots=True)
class AbsoluteError:
    """MAE: the mean distance of outputs and targets."""

    loss: Loss
    total: float = 0.0
    count: int = 0

    def add(self, outputs: Any, labels: Any) -> None:
        """Sum a batch."""
        values, targets = align_values(outputs, labels)
        # In float32 a sum of millions would no longer grow, and some accelerators have nothing else.
        self.total += float((values - targets).abs().cpu().sum(dtype=_SUMS))
        self.count += targets.numel()

    def compute(self) -> float:
        """In the unit of the targets."""
        return self.total / self.count if self.count else np.nan


@dataclass(slots=True)
class Determination:
    """R²: the share of the targets' variance that the outputs explain; of several outputs their mean."""

    loss: Loss
    count: int = 0
    errors: Any = 0.0
    means: Any = 0.0
    spreads: Any = 0.0

    def add(self, outputs: Any, labels: Any) -> None:
        """Join a batch's moments with those before (Chan et al. 1979), which loses nothing to large means."""
        values, targets = (
            value.reshape(len(value), -1).cpu().double().numpy() for value in align_values(outputs, labels)
        )
        count, means = len(targets), targets.mean(axis=0)
        shift, both = means - self.means, self.count + count
        self.errors = self.errors + ((values - targets) ** 2).sum(axis=0)
        self.spreads = self.spreads + ((targets - means) ** 2).sum(axis=0) + shift**2 * self.count * count / both
        self.means = self.means + shift * count / both
        self.count = both

    def compute(self) -> float:
        """At most 1; targets that are all alike give 1 where each is met, and else 0."""
        if self.count < 2:
            return np.nan
        constant = np.where(self.errors == 0, 1.0, 0.0)
        share = 1 - self.errors / np.where(self.spreads == 0, 1.0, self.spreads)
        return float(np.where(self.spreads == 0, constant, share).mean())


_SUMS = torch.float64
METRICS: dict[str, Callable[[Loss], Metric]] = {
    "accuracy": Accuracy,
    **{name: partial(Top, best=best) for name, best in TOP_METRICS.items()},
    "f1": F1,
    "auroc": AreaUnderCurve,
    "mae": AbsoluteError,
    "r2": Determination,
}
