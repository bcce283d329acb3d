"""Copies of a module, one for each training: whatever a module counts or remembers ends with its copy."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError
from client_agent.learning.learner import Role
from client_agent.learning.pytorch.modules import list_tensors


@dataclass(frozen=True, slots=True)
class ModuleCopy:
    """A module of one training's own, and its tensors that last, by name."""

    module: nn.Module
    tensors: dict[str, Tensor]


class Template:
    """Makes copies of a module. What is frozen is shared by all of them; what lasts otherwise has no values yet."""

    def __init__(self, module: nn.Module, roles: Mapping[str, Role]) -> None:
        named = dict(list_tensors(module))
        self._module = module
        self._named = {id(tensor): name for name, tensor in named.items()}
        self._shared = {
            id(tensor) for name, tensor in named.items() if roles[name] == "frozen" and isinstance(tensor, nn.Parameter)
        }
        self._tensors = _collect_tensors(module)
        self._rebuild = self._choose_way()

    def copy(self) -> ModuleCopy:
        """A fresh copy. Raises LearnerError where the module cannot be copied."""
        fresh = [self._copy_tensor(tensor) for tensor in self._tensors]
        try:
            module = self._rebuild(fresh)
        # Whatever a user's module holds may refuse to be copied, in whatever way it likes.
        except Exception as error:
            raise LearnerError(f"the model cannot be copied for a training: {type(error).__name__}: {error}") from error
        pairs = zip(self._tensors, fresh, strict=True)
        return ModuleCopy(module, {self._named[id(old)]: new for old, new in pairs if id(old) in self._named})

    def _copy_tensor(self, tensor: Tensor) -> Tensor:
        if id(tensor) in self._shared:
            return tensor
        plain = tensor.detach()
        # Those with a name are about to be filled.
        values = torch.empty_like(plain) if id(tensor) in self._named else plain.clone()
        if type(tensor) is nn.Parameter:
            values = nn.Parameter(values, requires_grad=tensor.requires_grad)
        # A user's own kind of parameter knows best how it is copied.
        elif isinstance(tensor, nn.Parameter):
            values = copy.deepcopy(tensor)
        values.__dict__.update(tensor.__dict__)
        return values

    def _choose_way(self) -> Callable[[list[Tensor]], nn.Module]:
        """Pickling all but the tensors takes a tenth of deepcopy's time, and cannot copy every module."""
        try:
            skeleton = _pickle_skeleton(self._module, self._tensors)
            _unpickle_skeleton(skeleton, self._tensors)
        # A user's classes may refuse in any way; lambdas, local classes and parametrizations do.
        except Exception:  # noqa: BLE001
            return self._copy_deeply
        return lambda fresh: _unpickle_skeleton(skeleton, fresh)

    def _copy_deeply(self, fresh: list[Tensor]) -> nn.Module:
        memo = {id(old): new for old, new in zip(self._tensors, fresh, strict=True)}
        return copy.deepcopy(self._module, memo)


def _collect_tensors(module: nn.Module) -> list[Tensor]:
    """Every tensor that the module's parts hold, once; also plain attributes, as old-style weight_norm leaves them."""
    found: dict[int, Tensor] = {}
    for part in module.modules():
        # Named explicitly, because `vars` shows these two only as dictionaries.
        for held in (vars(part), part._parameters, part._buffers):
            found |= {id(value): value for value in held.values() if isinstance(value, Tensor)}
    return list(found.values())


def _pickle_skeleton(module: nn.Module, tensors: list[Tensor]) -> bytes:
    places = {id(tensor): place for place, tensor in enumerate(tensors)}

    class Skeleton(pickle.Pickler):
        def persistent_id(self, value: Any) -> int | None:
            return places.get(id(value)) if isinstance(value, Tensor) else None

    buffer = io.BytesIO()
    Skeleton(buffer, pickle.HIGHEST_PROTOCOL).dump(module)
    return buffer.getvalue()


def _unpickle_skeleton(skeleton: bytes, tensors: list[Tensor]) -> nn.Module:
    # Only what this process has pickled itself, a moment ago, from its own objects.
    unpickler = pickle.Unpickler(io.BytesIO(skeleton))  # noqa: S301
    unpickler.persistent_load = tensors.__getitem__  # type: ignore[method-assign]
    module: nn.Module = unpickler.load()
    return module
