"""Where a module's tensors are while it is computed with: this machine's own choice, never the log's.

Before its first sum MKL is asked to add in one order, wherever a matrix begins: a device's result would depend on its
place among those that are trained with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from client_agent.learning.plugins import PluginError

os.environ.setdefault("MKL_CBWR", "AUTO")


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
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def _convert(value: Any, device: torch.device, *, dtype: torch.dtype | None = None) -> Any:
    """The tensors in it, however deep, at another place."""
    if isinstance(value, Tensor):
        return value.to(device, dtype) if dtype is not None and value.is_floating_point() else value.to(device)
    if isinstance(value, Mapping):
        return {name: _convert(part, device, dtype=dtype) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_convert(part, device, dtype=dtype) for part in value)
    return value
