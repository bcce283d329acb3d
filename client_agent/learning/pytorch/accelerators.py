"""Where a module's tensors are while it is computed with: this machine's own choice, never the log's.

Before its first sum MKL is asked to add in one order, wherever a matrix begins: a device's result would depend on its
place among those that are trained with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError, describe
from client_agent.learning.plugins import PluginError

os.environ.setdefault("MKL_CBWR", "AUTO")
_TYPES = re.compile(r"Input type \(torch\.((?:\w+\.)?)\w+\) and \w+ type \(torch\.((?:\w+\.)?)\w+\)")


def find_device(name: str) -> torch.device:
    """The device that `cpu`, `cuda`, `cuda:1` or `mps` names. Raises PluginError where this machine has none."""
    try:
        device = torch.device(name)
        # Only use tells whether there is one, and whether this build of torch knows it.
        torch.empty(1, device=device)
    # Torch looks for some kinds in packages of their own, which are not installed.
    except (RuntimeError, AssertionError, ImportError) as error:
        # Its first sentence: behind it torch lists whatever it was built with.
        said = str(error).partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
        raise PluginError(
            f"accelerator {name!r}: torch {torch.__version__} cannot use it here ({said}); choose accelerator cpu, or "
            "a machine and a build of torch that have it"
        ) from error
    if device.type == "meta":
        raise PluginError("accelerator 'meta' computes nothing; choose accelerator cpu")
    return device


@dataclass(frozen=True, slots=True)
class Placement:
    """Where batches go, and in what precision a module takes floating numbers."""

    device: torch.device
    dtype: torch.dtype = torch.float32

    @classmethod
    def read_module(cls, module: nn.Module) -> Placement:
        """The device of the module's first floating parameter, and its precision."""
        # Where precisions are mixed, as under adapters, the module itself converts behind the first layer.
        for parameter in module.parameters():
            if parameter.is_floating_point():
                return cls(parameter.device, parameter.dtype)
        return cls(torch.device("cpu"))

    @property
    def is_plain(self) -> bool:
        """Whether batches are already as the module wants them."""
        return self.device.type == "cpu" and self.dtype == torch.float32

    def place(self, inputs: Any) -> Any:
        """Inputs for the module: floating numbers in its precision."""
        return inputs if self.is_plain else _convert(inputs, self.device, dtype=self.dtype)

    def place_labels(self, labels: Any) -> Any:
        """Labels beside the outputs, in the precision that they have."""
        return labels if self.device.type == "cpu" else _convert(labels, self.device)


def seed_generators(device: torch.device, seed: int) -> None:
    """Seed what draws on the CPU and on `device`."""
    # Not torch.manual_seed, which also seeds devices that are not used and takes as long as a small training.
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        # Of several it seeds the current one.
        with torch.accelerator.device_index(device.index):
            torch.get_device_module(device).manual_seed(seed)


@contextlib.contextmanager
def explain_failures(device: torch.device) -> Iterator[None]:
    """Errors of a computation on `device`, with what its owner can do. Raises LearnerError."""
    try:
        yield
    except Exception as error:
        advice = next(filter(None, (_advise(cause, device) for cause in _list_causes(error))), "")
        if not advice:
            raise
        told = f"{advice} ({describe(error)})"
        _free_memory(error, device)
        raise LearnerError(told) from error


def is_misplaced(error: BaseException) -> bool:
    """Whether torch has met tensors of two devices in one operation."""
    if not isinstance(error, RuntimeError):
        return False
    # Convolutions name the types, which may differ in their precision alone.
    types = _TYPES.search(str(error))
    return "on the same device" in str(error) or (types is not None and types[1] != types[2])


def is_short_of_memory(error: BaseException) -> bool:
    """Whether there was no memory left for a tensor."""
    # The CPU's allocator has no error of its own.
    short = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, short) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))


def _advise(error: BaseException, device: torch.device) -> str:
    if is_short_of_memory(error):
        # Of the machine's own memory the user's data may have too little, whatever trains on it.
        where = device if isinstance(error, torch.OutOfMemoryError) else torch.device("cpu")
        other = "" if where.type == "cpu" else ", or take --accelerator cpu"
        return (
            f"too little memory on {where}: lower training.batch_size and evaluation.batch_size, have fewer processes "
            f"share it (--processes){other}"
        )
    if is_misplaced(error):
        return (
            f"the model is on {device}, and a tensor that it meets is not: a loop of your own moves its data with "
            ".to(next(model.parameters()).device), and a module keeps its tensors by register_buffer"
        )
    if isinstance(error, torch.AcceleratorError):
        return (
            f"{device} has failed, and may take no more work from this process: start it again, or take --accelerator "
            "cpu, which says which index is out of range, if it was one"
        )
    return ""


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _free_memory(error: BaseException, device: torch.device) -> None:
    """Let go of what the computation held, also for other processes."""
    for cause in _list_causes(error):
        # Its frames hold the batch, the copy of the module and all between.
        traceback.clear_frames(cause.__traceback__)
    if device.type != "cpu" and (empty := getattr(torch.get_device_module(device), "empty_cache", None)) is not None:
        with contextlib.suppress(RuntimeError):
            empty()


def _convert(value: Any, device: torch.device, *, dtype: torch.dtype | None = None) -> Any:
    """The tensors in it, however deep, at another place."""
    if isinstance(value, Tensor):
        return value.to(device, dtype) if dtype is not None and value.is_floating_point() else value.to(device)
    if isinstance(value, Mapping):
        return {name: _convert(part, device, dtype=dtype) for name, part in value.items()}
    if isinstance(value, nn.utils.rnn.PackedSequence):
        packed: Any = value  # torch says of this method that it takes a precision alone
        return packed.to(device, dtype) if dtype is not None and value.data.is_floating_point() else packed.to(device)
    # What comes with a way of its own, as a tokenizer's batches and graphs do.
    if callable(move := getattr(value, "to", None)):
        return move(device)
    if isinstance(value, tuple | list):
        parts = [_convert(part, device, dtype=dtype) for part in value]
        return value._make(parts) if hasattr(value, "_make") else type(value)(parts)
    return value
