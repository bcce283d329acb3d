"""A torch module's tensors as named arrays: which train, which are averaged, and which stay where they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn

from client_agent.learning.layout import ModelError
from client_agent.learning.learner import Arrays, Parameter, Role
from client_agent.learning.opening import call_plugin
from client_agent.learning.plugins import resolve
from schemas.policy import Parameters, Policy


def make_module(policy: Policy) -> nn.Module:
    """A fresh module of the policy's model. Raises PluginError, ModelError."""
    module = call_plugin(f"model {policy.model}", resolve(policy.model), **policy.model_arguments)
    if not isinstance(module, nn.Module):
        raise ModelError(f"model {policy.model!r} returned {type(module).__name__}, expected a torch.nn.Module")
    return module


def copy_module(module: nn.Module) -> nn.Module:
    """A module of its own for one training: whatever it counts or remembers ends with it. Frozen weights are shared."""
    shared = {id(tensor): tensor for tensor in module.parameters() if not tensor.requires_grad}
    return copy.deepcopy(module, shared)


def find_roles(module: nn.Module, rules: Parameters) -> dict[str, Role]:
    """The role of each tensor that lasts, by name, in the module's order; tied ones once. Raises ModelError."""
    roles: dict[str, Role] = {}
    for name, parameter in module.named_parameters():
        _check_parameter(name, parameter)
        roles[name] = _find_parameter_role(name, parameter, rules=rules)
    for name, buffer in _list_buffers(module):
        is_averaged = buffer.is_floating_point() and rules.buffers == "averaged" and not _matches(name, rules.local)
        roles[name] = "averaged" if is_averaged else "local"
    return roles


def freeze(module: nn.Module, roles: dict[str, Role]) -> None:
    """No gradient for what does not train here."""
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(roles[name] in ("trained", "local"))


def read_arrays(module: nn.Module, roles: dict[str, Role], *wanted: Role) -> dict[str, np.ndarray]:
    """The tensors with one of these roles as arrays of their own; half precision becomes float32."""
    tensors = dict(_list_tensors(module))
    return {name: _to_array(tensors[name]) for name, role in roles.items() if role in wanted}


def describe_parameters(module: nn.Module, roles: dict[str, Role]) -> dict[str, Parameter]:
    """All that lasts of the module, as it is now."""
    arrays = read_arrays(module, roles, "trained", "averaged", "frozen", "local")
    return {name: Parameter(array, roles[name]) for name, array in arrays.items()}


def fill(module: nn.Module, arrays: Arrays) -> None:
    """Set the module's tensors, each in its own precision. Raises ModelError for other names or shapes."""
    tensors = dict(_list_tensors(module))
    with torch.no_grad():
        for name, array in arrays.items():
            if name not in tensors or tensors[name].shape != array.shape:
                raise ModelError(f"the module has no tensor {name!r} of shape {array.shape}: is it the same code?")
            # A copy, because versions are read-only and torch warns of tensors over such memory.
            tensors[name].copy_(torch.from_numpy(np.array(array)))
    _repair_variances(module)


def _list_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from _list_buffers(module)


def _list_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers that are meant to last; a constant registered as not persistent is part of the code."""
    lasting = module.state_dict(keep_vars=True)
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in lasting)


def _check_parameter(name: str, parameter: nn.Parameter) -> None:
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise ModelError(f"parameter {name} has no shape yet: give the lazy layer its size, or run it once")
    if parameter.is_meta:
        raise ModelError(f"parameter {name} is on the meta device, and has no values to start from")
    if not parameter.is_floating_point():
        raise ModelError(f"parameter {name} is {parameter.dtype}; only floating numbers are trained")


def _find_parameter_role(name: str, parameter: nn.Parameter, *, rules: Parameters) -> Role:
    if _matches(name, rules.local):
        return "local"
    return "trained" if parameter.requires_grad and _matches(name, rules.trained) else "frozen"


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _to_array(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().cpu()
    # numpy has no bfloat16, and float16 is too coarse for a sum of many.
    return (plain.float() if plain.dtype in (torch.bfloat16, torch.float16) else plain.clone()).numpy()


def _repair_variances(module: nn.Module) -> None:
    """Noise and averaging may leave a running variance below zero, of which a module would take the root."""
    for part in module.modules():
        variance = getattr(part, "running_var", None)
        if isinstance(variance, Tensor):
            variance.clamp_(min=0.0)
