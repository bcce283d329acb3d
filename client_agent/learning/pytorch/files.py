"""Files of torch, as arrays by name and back; `ops.operator.weight_files` calls it for `.pt`."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client_agent.learning.learner import Array, Arrays
from client_agent.learning.plugins import PluginError

# Where training scripts put a module's state beside their optimizer's.
WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_state(path: Path) -> dict[str, Array]:
    """The tensors of a state_dict, bfloat16 as float32. Raises PluginError for a file that holds anything else."""
    try:
        # Never without: a pickle of anything but tensors runs whatever its author wanted.
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        told = str(error).partition("\n")[0][:300]
        raise PluginError(
            f"{path} is no file of tensors alone ({told}): write it with torch.save(module.state_dict(), {path.name!r})"
        ) from error
    state = _unwrap(found)
    if state is None:
        raise PluginError(f"{path} holds {type(found).__name__}, expected a state_dict: tensors by name")
    return {name: _to_array(tensor) for name, tensor in state.items()}


def write_state(arrays: Arrays) -> bytes:
    """What torch.load(…, weights_only=True) reads as a state_dict."""
    buffer = io.BytesIO()
    torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, buffer)
    return buffer.getvalue()


def _unwrap(found: Any) -> Mapping[str, torch.Tensor] | None:
    if not isinstance(found, Mapping):
        return None
    for wrapper in WRAPPERS:
        if isinstance(found.get(wrapper), Mapping):
            return _unwrap(found[wrapper])
    is_state = all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items())
    return found if is_state and found else None


def _to_array(tensor: torch.Tensor) -> Array:
    plain = tensor.detach().cpu()
    # numpy has no bfloat16, and float32 holds all of its values.
    return (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
