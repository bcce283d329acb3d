"""Whether a model learns in lockstep what it learns alone: by its parts, and by one device that trains both ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Arrays, Role
from client_agent.learning.pytorch.batches import Columns, widen
from client_agent.learning.pytorch.copying import ModuleCopy
from client_agent.learning.pytorch.lockstep.padded_losses import PADDED
from client_agent.learning.pytorch.lockstep.steps import KNOWN_ARGUMENTS, Rules
from client_agent.learning.pytorch.losses import Loss, align_classes
from schemas.policy import Policy

# Beyond this the arithmetic itself takes the time, and is done no faster for many.
PARAMETERS_MAX = 50_000
# What a device may learn otherwise in lockstep, as a share of what it learns: rounding, which a training enlarges.
TOLERANCE = 0.01
# Parts that are no faster together, or look at the rows of a batch together.
_SLOW = (nn.modules.conv._ConvNd, nn.RNNBase)
_MIXING = (nn.modules.batchnorm._BatchNorm,)


def find_refusal(policy: Policy, copied: ModuleCopy, *, roles: Mapping[str, Role], loss: Loss | None) -> str:
    """Why trainings of this policy are left to the loop; empty where they may be tried."""
    training, parts = policy.training, list(copied.module.modules())
    trained = [tensor for name, tensor in copied.tensors.items() if roles[name] == "trained"]
    held = {
        "it has a loop of its own": bool(training.train),
        f"loss {training.loss!r}": loss is None or loss.name not in PADDED,
        f"optimizer {training.optimizer!r} with these arguments": (
            not set(training.optimizer_arguments) <= KNOWN_ARGUMENTS.get(training.optimizer, set())
            or training.optimizer not in KNOWN_ARGUMENTS
        ),
        "it reports more than the loss": bool(set(policy.evaluation.report) - {"loss"}),
        "tensors that are averaged, or a device's own": bool({*roles.values()} - {"trained", "frozen"}),
        "parameters of another type than float32, or elsewhere": any(
            tensor.dtype != torch.float32 or tensor.device.type != "cpu" for tensor in copied.tensors.values()
        ),
        f"more than {PARAMETERS_MAX} parameters": sum(tensor.numel() for tensor in trained) > PARAMETERS_MAX,
        "convolutions or recurrent layers": any(isinstance(part, _SLOW) for part in parts),
        "normalising over a batch": any(isinstance(part, _MIXING) for part in parts),
    }
    return next((reason for reason, is_so in held.items() if is_so), "")


def look_at_model(rules: Rules, columns: Columns) -> int:
    """How many outputs the model has for an example, where they are classes. Raises LearnerError if rows are mixed."""
    generator = torch.Generator().manual_seed(0)
    # Not as it starts: from zeros every model gives the same for all rows.
    flat = torch.randn(sum(slot.size for slot in rules.slots), generator=generator) * 0.1
    first = [widen(tensor[:1]) for tensor in columns.tensors]
    twice = [torch.cat([row, row]) for row in first]
    beside = [torch.cat([row, torch.zeros_like(row)]) for row in first]
    with torch.no_grad():
        one, two = (rules.call_module(flat, rows[:-1], names=columns.names) for rows in (twice, beside))
    if not isinstance(one, Tensor) or len(one) != 2 or not torch.allclose(one[0], two[0], rtol=1e-4, atol=1e-5):
        raise LearnerError("what the model gives for an example depends on the others of its batch")
    return int(align_classes(one, twice[-1])[0].shape[1]) if rules.loss.ignored is not None else 0


def find_difference(start: Arrays, *, expected: Arrays, found: Arrays) -> str:
    """What is wrong with a training in lockstep, beside the same alone; empty where they agree."""
    alone, together = _list_changes(start, expected), _list_changes(start, found)
    apart = float(np.linalg.norm(alone - together))
    if apart > TOLERANCE * float(np.linalg.norm(alone)) + 1e-6:
        return f"in lockstep it learns something else: {apart:.3g} apart"
    return ""


def _list_changes(start: Arrays, arrays: Arrays) -> np.ndarray[Any, Any]:
    return np.concatenate([(array - start[name]).reshape(-1) for name, array in sorted(arrays.items())])
