"""Losses by name: what a policy's `training.loss` means, with the shapes that each asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.plugins import PluginError, resolve
from schemas.policy import Training

IGNORED = -100  # torch's own default for `ignore_index`
functional = nn.functional


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of outputs and targets, a mean over a batch; `weigh` says over how much, so that means can be joined."""

    name: str
    compute: Callable[[Any, Any], Tensor]
    weigh: Callable[[Any, Any], float]
    # What a label must be in order to be left out; None where there is no such label.
    ignored: int | None = None
    # Those of the policy, as torch takes them.
    arguments: Mapping[str, Any] = field(default_factory=dict)


def make_loss(training: Training) -> Loss:
    """The loss of a policy. Raises PluginError, also where its arguments do not fit."""
    if ":" in training.loss:
        compute = partial(call, f"loss {training.loss!r}", resolve(training.loss), **training.loss_arguments)
        return Loss(training.loss, compute, _count_rows)
    arguments = _read_arguments(training)
    if arguments.get("reduction", "mean") != "mean":
        raise PluginError("training.loss_arguments.reduction: a loss is a mean over the batch; leave it out")
    compute = partial(_LOSSES[training.loss], **arguments)
    _try(training, compute, arguments=arguments)
    weigh, ignored = _WEIGHTS[training.loss], None
    if training.loss in ("cross_entropy", "nll"):
        ignored = int(arguments.get("ignore_index", IGNORED))
        weigh = partial(weigh, ignored=ignored, weight=arguments.get("weight"))
    return Loss(training.loss, compute, weigh, ignored, arguments)


def _try(training: Training, compute: Callable[..., Tensor], *, arguments: dict[str, Any]) -> None:
    """Try arguments on a small example, so that a misspelt one is told before anybody trains."""
    classes = len(arguments["weight"]) if isinstance(arguments.get("weight"), Tensor) else 2
    scores, values = torch.zeros(1, classes), _make_values(arguments)
    examples = {
        "cross_entropy": (scores, torch.zeros(1, dtype=torch.long)),
        "nll": (scores, torch.zeros(1, dtype=torch.long)),
        "ctc": (torch.zeros(1, 3, 2), torch.ones(1, 1, dtype=torch.long)),
    }
    try:
        compute(*examples.get(training.loss, (values, values)))
    # Torch answers an argument that is none with any kind of error.
    except Exception as error:
        raise PluginError(f"training.loss_arguments of {training.loss!r}: {error}") from error


def _read_arguments(training: Training) -> dict[str, Any]:
    try:
        return {name: _to_torch(value) for name, value in training.loss_arguments.items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise PluginError(f"training.loss_arguments of {training.loss!r}: {error}") from error


def _make_values(arguments: dict[str, Any]) -> Tensor:
    """One example with a value for each weight."""
    widths = [len(value) for value in arguments.values() if isinstance(value, Tensor)]
    return torch.zeros(1, max(widths)) if widths else torch.zeros(1)


def align_classes(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores as (rows, classes) with classes (rows,), or with shares (rows, classes). Raises LearnerError.

    Scores may be (n, classes), a sequence's (n, ..., classes), or torch's (n, classes, ...).
    """
    if outputs.ndim < 2 or outputs.shape[1] == 1:
        raise LearnerError(
            f"the model gives outputs {tuple(outputs.shape)}, and a loss of classes wants a score for each of two or "
            "more classes; for one yes or no take 'bce', for values 'mse'"
        )
    if labels.is_floating_point():
        if labels.shape != outputs.shape:
            raise LearnerError(
                "labels are no whole numbers: a loss of classes wants 0, 1, 2, ... (shares of each class have the "
                f"shape of the outputs, here {tuple(outputs.shape)}); for values take 'mse'"
            )
        return outputs.flatten(0, -2), labels.flatten(0, -2)
    if outputs.ndim == 2 and labels.ndim == 1 and len(outputs) == len(labels):
        return outputs, labels
    # Where both readings fit, as with as many classes as positions, the classes are taken to stand last.
    if outputs.shape[:-1] == labels.shape:
        return outputs.flatten(0, -2), labels.flatten()
    if outputs.ndim == labels.ndim + 1 and outputs.shape[:1] + outputs.shape[2:] == labels.shape:
        return outputs.movedim(1, -1).flatten(0, -2), labels.flatten()
    if outputs.ndim == 2 and labels.shape == (len(outputs), 1):
        return outputs, labels.squeeze(1)
    raise LearnerError(f"the model gives outputs {tuple(outputs.shape)} for labels {tuple(labels.shape)}")


def align_values(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs (n, 1) for labels (n,): torch would spread one over the other, and train on every pair."""
    if outputs.ndim == labels.ndim + 1 and outputs.shape[-1] == 1:
        outputs = outputs.squeeze(-1)
    elif labels.ndim == outputs.ndim + 1 and labels.shape[-1] == 1:
        labels = labels.squeeze(-1)
    if outputs.shape != labels.shape:
        raise LearnerError(f"the model gives outputs {tuple(outputs.shape)} for labels {tuple(labels.shape)}")
    return outputs, labels.to(outputs.dtype)


def _compute_classes(outputs: Tensor, labels: Tensor, *, function: Callable[..., Tensor], **arguments: Any) -> Tensor:
    rows, classes = align_classes(outputs, labels)
    ignored = arguments.get("ignore_index", IGNORED)
    if classes.dtype == torch.bool:
        classes = classes.long()
    if rows.device.type != "cpu":
        # There a wrong label ends the whole process, so it is looked for before.
        _check_classes(rows, classes, ignored=ignored)
        arguments = {name: v.to(rows.device) if isinstance(v, Tensor) else v for name, v in arguments.items()}
    # Not looked over before, because that would take as long as the loss of a small model.
    try:
        return function(rows, classes, **arguments)
    except IndexError:
        _check_classes(rows, classes, ignored=ignored)
        raise


def _check_classes(rows: Tensor, classes: Tensor, *, ignored: int) -> None:
    """Raises LearnerError for a label that the model has no output for: in these words, before torch's own."""
    if classes.is_floating_point():
        return
    named = classes[classes != ignored]
    low, high = (int(named.min()), int(named.max())) if named.numel() else (0, 0)
    if low < 0 or high >= rows.shape[1]:
        hint = "; do yours begin at 1?" if low == 1 and high == rows.shape[1] else ""
        raise LearnerError(
            f"label {low if low < 0 else high}, and the model has {rows.shape[1]} outputs: labels go from 0 to "
            f"{rows.shape[1] - 1}{hint}"
        )


def _compute_bce(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    scores, shares = align_values(outputs, labels)
    # Torch itself takes any number here, and gives a loss that has no lower end.
    low, high = (float(bound) for bound in shares.aminmax())
    if low < 0 or high > 1:
        raise LearnerError(f"label {low if low < 0 else high}: bce wants labels from 0 to 1")
    arguments = {name: v.to(scores.device) if isinstance(v, Tensor) else v for name, v in arguments.items()}
    return functional.binary_cross_entropy_with_logits(scores, shares, **arguments)


def _compute_mse(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    return functional.mse_loss(*align_values(outputs, labels), **arguments)


def _compute_huber(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    return functional.huber_loss(*align_values(outputs, labels), **arguments)


def _compute_ctc(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    """Log-probabilities (n, time, classes) against labels (n, length), where the blank pads the end."""
    if outputs.ndim != 3 or labels.ndim != 2 or labels.is_floating_point():
        raise LearnerError(
            f"ctc wants log-probabilities (n, time, classes) and whole numbers (n, length), not {tuple(outputs.shape)} "
            f"and {tuple(labels.shape)}"
        )
    steps = torch.full((len(outputs),), outputs.shape[1], dtype=torch.long)
    lengths = (labels != arguments.get("blank", 0)).sum(dim=1)
    # One text that is too long for its time would make the whole batch infinite.
    return functional.ctc_loss(outputs.transpose(0, 1), labels, steps, lengths, **{"zero_infinity": True, **arguments})


def _count_rows(outputs: Any, labels: Any) -> float:
    """The examples of a batch, as its labels or its outputs say."""
    for value in (labels, outputs):
        first = _find_tensor(value)
        if first is not None and first.ndim:
            return len(first)
    return 1.0


def _find_tensor(value: Any) -> Tensor | None:
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((found for part in value if (found := _find_tensor(part)) is not None), None)
    return value if isinstance(value, Tensor) else None


def _count_elements(outputs: Tensor, labels: Tensor) -> float:
    del outputs
    return labels.numel()


def _sum_class_weights(outputs: Tensor, labels: Tensor, *, ignored: int, weight: Tensor | None) -> float:
    """What a mean over classes divides by: the labels that count, each with its class's weight."""
    rows, classes = align_classes(outputs, labels)
    if classes.is_floating_point():
        return len(rows)
    named = classes.long()[classes != ignored]
    return float(named.numel() if weight is None else weight.to(named.device)[named].sum())


def _to_torch(value: Any) -> Any:
    return torch.tensor(value, dtype=torch.float32) if isinstance(value, tuple | list) else value


def is_empty(loss: Loss, value: float, *, batch: tuple[Any, Any]) -> bool:
    """Whether a loss is no number because every label of the batch was to be ignored."""
    return math.isnan(value) and loss.weigh(*batch) == 0


_LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": partial(_compute_classes, function=functional.cross_entropy),
    "nll": partial(_compute_classes, function=functional.nll_loss),
    "bce": _compute_bce,
    "mse": _compute_mse,
    "huber": _compute_huber,
    "ctc": _compute_ctc,
}
_WEIGHTS: dict[str, Callable[..., float]] = {
    "cross_entropy": _sum_class_weights,
    "nll": _sum_class_weights,
    "bce": _count_elements,
    "mse": _count_elements,
    "huber": _count_elements,
    "ctc": _count_rows,
}
