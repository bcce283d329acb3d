"""A module called with a batch, and what it gives as a loss can read it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from client_agent.learning.foreign import LearnerError
from client_agent.learning.pytorch.accelerators import is_misplaced, is_short_of_memory
from client_agent.learning.pytorch.modules import HALVES

# Words of torch about sizes that do not go together.
_SIZES = ("shape", "size", "dimension")
_NORMALISING = "more than 1 value per channel when training"


def forward(module: Callable[..., Any], inputs: Any) -> Any:
    """What the module gives for a batch; of an object with `logits`, as hubs' models give, those.

    Raises LearnerError where torch's own words would not say what to change, and else what the module raises.
    """
    try:
        outputs = module(**inputs) if isinstance(inputs, dict) else module(*inputs)
    except (RuntimeError, ValueError, TypeError) as error:
        if hint := _advise(error, inputs):
            raise LearnerError(f"the model failed on a batch: {type(error).__name__}: {error}; {hint}") from error
        raise
    outputs = getattr(outputs, "logits", outputs)
    if isinstance(outputs, Tensor):
        # A loss over half precision would round away what it is to tell.
        return outputs.float() if outputs.dtype in HALVES else outputs
    if not isinstance(outputs, tuple | list | dict):
        raise LearnerError(f"the model returned {type(outputs).__name__}, expected a tensor")
    return outputs


def _advise(error: Exception, inputs: Any) -> str:
    # About these the learner has words of its own.
    if is_misplaced(error) or is_short_of_memory(error):
        return ""
    if _NORMALISING in str(error):
        return "BatchNorm needs two examples or more in a batch: raise training.batch_size, or selection.samples_min"
    if isinstance(error, TypeError) and isinstance(inputs, dict):
        return (
            f"data with names reach the model under these, here {', '.join(map(str, inputs))}: let its parameters have "
            "them, or have the data plugin give (features, labels)"
        )
    values = inputs.values() if isinstance(inputs, dict) else inputs
    if isinstance(error, RuntimeError) and any(isinstance(v, Tensor) and not v.is_floating_point() for v in values):
        return "whole numbers stay whole; where they are no indices, divide them in the data plugin, as by 255"
    if isinstance(error, RuntimeError) and any(word in str(error) for word in _SIZES):
        shapes = ", ".join(str(tuple(value.shape)) for value in values if isinstance(value, Tensor))
        return f"the data plugin gives batches of shape {shapes}: is this what the model takes?"
    return ""
