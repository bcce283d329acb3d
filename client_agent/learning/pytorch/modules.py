"""A torch module's tensors by name: which train, which are averaged, and which stay where they are."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from client_agent.learning.allow_list import is_built_in
from client_agent.learning.foreign import LearnerError
from client_agent.learning.layout import ModelError
from client_agent.learning.learner import Role
from client_agent.learning.opening import call_plugin
from client_agent.learning.plugins import resolve
from schemas.policy import Parameters, Policy

HALVES = (torch.float16, torch.bfloat16)


def make_module(policy: Policy) -> nn.Module:
    """A fresh module of the policy's model. Raises PluginError, ModelError."""
    make = resolve(policy.model)
    if is_built_in(policy.model):
        taken = inspect.signature(make).parameters
        if unknown := [name for name in policy.model_arguments if name not in taken]:
            raise ModelError(f"model_arguments.{unknown[0]:.80}: {make.__name__} takes {', '.join(taken)}")
    module = call_plugin(f"model {policy.model!r}", make, **policy.model_arguments)
    if not isinstance(module, nn.Module):
        raise ModelError(f"model {policy.model!r} returned {type(module).__name__}, expected a torch.nn.Module")
    return module


def list_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, tied ones once, then the buffers that are meant to last; others are part of the code."""
    yield from module.named_parameters()
    lasting = module.state_dict(keep_vars=True)
    yield from ((name, buffer) for name, buffer in module.named_buffers() if name in lasting)


def find_roles(module: nn.Module, rules: Parameters) -> dict[str, Role]:
    """The role of each tensor that lasts, by name, in the module's order. Raises ModelError."""
    tensors = dict(list_tensors(module))
    if problems := [problem for name, tensor in tensors.items() if (problem := _find_problem(name, tensor))]:
        raise ModelError("; ".join(problems[:5]))
    aliases = _find_aliases(module)
    # A misspelt pattern beside one that fits would freeze what was meant to train without a word.
    for field, patterns in (("trained", rules.trained), ("local", rules.local)) if tensors else ():
        names = {*tensors, *itertools.chain(*aliases.values())}
        if unmatched := [pattern for pattern in patterns if not any(_matches(name, (pattern,)) for name in names)]:
            raise ModelError(f"parameters.{field} = {unmatched} matches none of {', '.join(list(tensors)[:8])}")
    roles = {
        name: find_role(name, tensor, rules=rules, aliases=aliases.get(name, ())) for name, tensor in tensors.items()
    }
    if "trained" not in roles.values():
        raise ModelError(
            f"nothing in the model is trained: no parameter asks for a gradient and matches parameters.trained = "
            f"{list(rules.trained)}, among {', '.join(list(tensors)[:8]) or 'none at all'}"
        )
    return roles


def find_role(name: str, tensor: Tensor, *, rules: Parameters, aliases: Sequence[str] = ()) -> Role:
    """What becomes of one tensor, which a module that ties it knows by other names too."""
    names = (name, *aliases)
    # Whole numbers count or point at something: a mean of them is neither.
    if not tensor.is_floating_point() or any(_matches(each, rules.local) for each in names):
        return "local"
    # An embedding may be frozen by its author or by the policy; neither overrules the other.
    if isinstance(tensor, nn.Parameter):
        is_meant = any(_matches(each, rules.trained) for each in names)
        return "trained" if tensor.requires_grad and is_meant else "frozen"
    if rules.buffers == "local":
        return "local"
    # A table, of positions for instance, must not come under noise only because it is a buffer.
    return "averaged" if _matches(name, rules.averaged) else "frozen"


def _find_aliases(module: nn.Module) -> dict[str, list[str]]:
    """The further names of each parameter that is tied, by the name under which it is listed."""
    first: dict[int, str] = {}
    aliases: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            aliases.setdefault(first[id(parameter)], []).append(name)
    return aliases


def find_tensors(module: nn.Module, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors that stand under these names now. Raises LearnerError where one is gone."""
    found = {}
    for name in names:
        path, _, key = name.rpartition(".")
        try:
            part = module.get_submodule(path)
        except AttributeError as error:
            raise LearnerError(f"the model has no {name!r} any more after its training") from error
        tensor = part._parameters.get(key, part._buffers.get(key))
        if tensor is None:
            raise LearnerError(f"the model has no {name!r} any more after its training")
        found[name] = tensor
    return found


def freeze(module: nn.Module, roles: Mapping[str, Role]) -> None:
    """No gradient for what is frozen."""
    for name, parameter in module.named_parameters():
        if roles[name] == "frozen":
            parameter.requires_grad_(False)


def fill_tensor(tensor: Tensor, array: np.ndarray, *, name: str) -> None:
    """Set a tensor, in its own precision. Raises ModelError for another shape."""
    if tuple(tensor.shape) != array.shape:
        raise ModelError(
            f"{name!r} has shape {tuple(tensor.shape)} here and {array.shape} in the version: is it the same code?"
        )
    plain = tensor.detach()
    if plain.device.type == "cpu" and plain.dtype not in HALVES:
        # Through numpy, because versions are read-only and torch warns of tensors over such memory.
        np.copyto(plain.numpy(), array, casting="unsafe")
    else:
        plain.copy_(torch.from_numpy(np.array(array)))


def read_array(tensor: Tensor) -> np.ndarray:
    """A tensor's values as they are now, perhaps in its own memory; half precision as float32."""
    plain = tensor.detach().cpu()
    # numpy has no bfloat16, and float16 is too coarse for a sum of many.
    return (plain.float() if plain.dtype in HALVES else plain).numpy()


def _find_problem(name: str, tensor: Tensor) -> str:
    """Why a tensor cannot be in a model, or nothing."""
    if is_lazy(tensor):
        return f"{name} has no shape yet: give the lazy layer its size, or run it once in the model plugin"
    if tensor.is_meta:
        return f"{name} is on the meta device, and has no values to start from"
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"{name} is sparse or quantized: only plain tensors can be sent"
    if isinstance(tensor, nn.Parameter) and tensor.is_complex():
        return f"{name} is {tensor.dtype}: keep real and imaginary part as one real tensor (torch.view_as_real)"
    # A training has a copy of the module, and hooks on tensors are not copied.
    if getattr(tensor, "_backward_hooks", None) or getattr(tensor, "_post_accumulate_grad_hooks", None):
        return f"{name} has a gradient hook, which would be lost; change gradients in an optimizer or loop of your own"
    return ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern fits the whole name, or, where it has no dot, what the name ends with."""
    last = name.rpartition(".")[2]
    return any(
        fnmatchcase(name, pattern) or ("." not in pattern and fnmatchcase(last, pattern)) for pattern in patterns
    )


def check_unmoved(tensor: Tensor, before: np.ndarray, *, name: str) -> None:
    """Raises LearnerError where a tensor that is in no update has changed."""
    if not np.array_equal(read_array(tensor), before, equal_nan=True):
        raise LearnerError(
            f"buffer {name!r} changes in training, and what it learns would be lost: name it in parameters.averaged, "
            "or in parameters.local"
        )
