"""Losses of batches in which some rows only fill up the room: the mean over the others, as `losses` takes it of all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from client_agent.learning.foreign import LearnerError
from client_agent.learning.pytorch.losses import IGNORED, Loss, align_classes, align_values, functional


def compute_padded(loss: Loss, outputs: Any, *, labels: Tensor, mask: Tensor) -> Tensor:
    """The loss of the rows whose `mask`, of shape (rows,), is 1; it is 0 for the others. One of PADDED."""
    if not isinstance(outputs, Tensor):
        raise LearnerError(f"the model returned {type(outputs).__name__}")
    value: Tensor = PADDED[loss.name](outputs, labels, mask=mask, **loss.arguments)
    return value


def has_wrong_label(loss: Loss, labels: Tensor, *, classes: int) -> bool:
    """Whether the loop stops at one of the labels, which here would be computed with."""
    if loss.name == "bce":
        return bool(((labels < 0) | (labels > 1)).any())
    if loss.ignored is None or labels.is_floating_point():
        return False
    is_wrong = (labels != loss.ignored) & ((labels < 0) | (labels >= classes))
    return bool(is_wrong.any())


def _compute_classes(
    outputs: Tensor, labels: Tensor, *, mask: Tensor, function: Callable[..., Tensor], **arguments: Any
) -> Tensor:
    rows, classes = align_classes(outputs, labels)
    classes = classes.long() if classes.dtype == torch.bool else classes
    # An example may have several rows of scores, which stand one after the other.
    counted = mask.unsqueeze(1).expand(-1, len(rows) // len(mask)).reshape(-1)
    each = function(rows, classes, **{**arguments, "reduction": "none"}) * counted
    if classes.is_floating_point():
        return each.sum() / counted.sum()
    share = counted * (classes != arguments.get("ignore_index", IGNORED))
    if arguments.get("weight") is not None:
        # A label that is ignored may be no class at all.
        named = classes.clamp(min=0).unsqueeze(1)
        share = share * arguments["weight"].expand(len(rows), -1).gather(1, named).squeeze(1)
    mean: Tensor = each.sum() / share.sum()
    return mean


def _compute_values(
    outputs: Tensor, labels: Tensor, *, mask: Tensor, function: Callable[..., Tensor], **arguments: Any
) -> Tensor:
    values, targets = align_values(outputs, labels)
    each = function(values, targets, **{**arguments, "reduction": "none"}).reshape(len(mask), -1)
    return (each.mean(dim=1) * mask).sum() / mask.sum()


PADDED: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": partial(_compute_classes, function=functional.cross_entropy),
    "nll": partial(_compute_classes, function=functional.nll_loss),
    "bce": partial(_compute_values, function=functional.binary_cross_entropy_with_logits),
    "mse": partial(_compute_values, function=functional.mse_loss),
    "huber": partial(_compute_values, function=functional.huber_loss),
}
