"""Losses by name: what a policy's `training.loss` means, with the shapes that each asks for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from client_agent.learning.foreign import call
from client_agent.learning.plugins import PluginError, resolve
from schemas.policy import Training

Loss = Callable[[Any, Any], Tensor]


def make_loss(training: Training) -> Loss:
    """The loss of outputs and targets, a mean over the batch. Raises PluginError."""
    if ":" in training.loss:
        return partial(call, f"loss {training.loss}", resolve(training.loss), **training.loss_arguments)
    arguments = {name: _to_torch(value) for name, value in training.loss_arguments.items()}
    function = partial(_LOSSES[training.loss], **arguments)
    try:
        function(*_EXAMPLES[training.loss])
    except TypeError as error:
        raise PluginError(f"training.loss_arguments of {training.loss!r}: {error}") from error
    return function


def _cross_entropy(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    """Scores (n, ..., classes) or (n, classes) against classes (n, ...), also one a position of a sequence."""
    _check_classes(outputs, labels, ignored=arguments.get("ignore_index", -100))
    # A sequence has a label a position, and torch wants the classes second.
    if outputs.ndim > 2 and outputs.shape[:-1] == labels.shape:
        outputs, labels = outputs.flatten(0, -2), labels.flatten()
    return nn.functional.cross_entropy(outputs, labels, **arguments)


def _nll(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    _check_classes(outputs, labels, ignored=arguments.get("ignore_index", -100))
    return nn.functional.nll_loss(outputs, labels, **arguments)


def _bce(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(_fit(outputs, labels), labels.to(outputs.dtype), **arguments)


def _mse(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    return nn.functional.mse_loss(_fit(outputs, labels), labels.to(outputs.dtype), **arguments)


def _huber(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    return nn.functional.huber_loss(_fit(outputs, labels), labels.to(outputs.dtype), **arguments)


def _ctc(outputs: Tensor, labels: Tensor, **arguments: Any) -> Tensor:
    """Log-probabilities (n, time, classes) against labels (n, length), where 0 is the blank and pads the end."""
    steps = torch.full((len(outputs),), outputs.shape[1], dtype=torch.long)
    lengths = (labels != arguments.get("blank", 0)).sum(dim=1)
    return nn.functional.ctc_loss(outputs.transpose(0, 1), labels, steps, lengths, zero_infinity=True, **arguments)


_LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": _cross_entropy,
    "bce": _bce,
    "mse": _mse,
    "huber": _huber,
    "ctc": _ctc,
    "nll": _nll,
}
_SCORES, _CLASSES, _VALUES = torch.zeros(1, 2), torch.zeros(1, dtype=torch.long), torch.zeros(1)
# Arguments are tried on these, so that a misspelt one is told before anybody trains.
_EXAMPLES: dict[str, tuple[Tensor, Tensor]] = {
    "cross_entropy": (_SCORES, _CLASSES),
    "nll": (_SCORES, _CLASSES),
    "bce": (_VALUES, _VALUES),
    "mse": (_VALUES, _VALUES),
    "huber": (_VALUES, _VALUES),
    "ctc": (torch.zeros(1, 3, 2), torch.ones(1, 1, dtype=torch.long)),
}


def _check_classes(outputs: Tensor, labels: Tensor, *, ignored: int) -> None:
    """Labels must be classes that the model has: said in these words before torch says it in its own."""
    if labels.is_floating_point():
        # Probabilities of classes are targets too, and have the shape of the outputs.
        if labels.shape == outputs.shape:
            return
        raise PluginError("labels are no whole numbers: a loss of classes wants 0, 1, 2, ...; for values take 'mse'")
    classes = outputs.shape[-1] if outputs.ndim <= 2 or outputs.shape[:-1] == labels.shape else outputs.shape[1]
    told = labels[labels != ignored]
    if told.numel() and (int(told.min()) < 0 or int(told.max()) >= classes):
        wrong = int(told.min()) if int(told.min()) < 0 else int(told.max())
        raise PluginError(f"label {wrong}, and the model has {classes} outputs: labels go from 0 to {classes - 1}")


def _fit(outputs: Tensor, labels: Tensor) -> Tensor:
    """Outputs (n, 1) for labels (n,): torch would spread one over the other, and train on every pair."""
    if outputs.shape != labels.shape and outputs.ndim == labels.ndim + 1 and outputs.shape[-1] == 1:
        outputs = outputs.squeeze(-1)
    # Broadcasting would train without a word on shapes that nobody meant.
    if outputs.shape != labels.shape:
        raise PluginError(f"the model gives outputs {tuple(outputs.shape)} for labels {tuple(labels.shape)}")
    return outputs


def _to_torch(value: Any) -> Any:
    return torch.tensor(value) if isinstance(value, tuple) else value
