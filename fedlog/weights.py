"""A version of a model outside of the log: named float32 arrays, or the weights of a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Model:
    """The arrays of one version by name: a torch module's names are those of its parameters."""

    task: str
    version: int
    arrays: Mapping[str, NDArray[float32]] = field(repr=False)

    def to_state_dict(self) -> dict[str, Any]:
        """The same as torch tensors, which may be changed."""
        # Only who asks for tensors has to have torch.
        torch = import_module("torch")
        return {name: torch.from_numpy(array.copy()) for name, array in self.arrays.items()}

    def load_into(self, module: Any) -> Any:
        """Give a torch module these weights, and give it back. Raises ValueError that names what does not fit.

        What the module has beyond them stays: tied names, and what never left the devices.
        """
        # Not strictly: a task has each tied tensor once, and nothing that is local.
        result = module.load_state_dict(self.to_state_dict(), strict=False)
        if result.unexpected_keys:
            has = ", ".join(list(module.state_dict())[:8])
            raise ValueError(f"the module has no {', '.join(result.unexpected_keys[:8])}; it has {has}")
        return module
