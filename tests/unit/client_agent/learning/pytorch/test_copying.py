"""Copies of a module: each training has one of its own, whatever way the module can be copied."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from client_agent.learning.foreign import LearnerError
from client_agent.learning.pytorch.copying import Template
from client_agent.learning.pytorch.modules import find_roles, freeze, list_tensors
from schemas.policy import Parameters
from tests import torch_zoo as zoo


def make_template(module: nn.Module) -> Template:
    roles = find_roles(module, Parameters())
    freeze(module, roles)
    return Template(module, roles)


def fill_alike(source: nn.Module, template: Template) -> nn.Module:
    """A copy with the values of the module that it is of."""
    copied, values = template.copy(), dict(list_tensors(source))
    assert copied.tensors.keys() == values.keys()
    with torch.no_grad():
        for name, tensor in copied.tensors.items():
            tensor.copy_(values[name])
    return copied.module


class Local(nn.Linear):
    """Stands in for a class that pickle cannot find."""


Local.__qualname__ = "somewhere.<locals>.Local"


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "module",
    [
        zoo.batch_norm(),
        zoo.Tied(),
        zoo.parametrized("old"),
        zoo.parametrized("new"),
        zoo.parametrized("hook"),
        Local(4, 3),
        nn.Sequential(nn.Linear(4, 4), zoo.WithHead()),
    ],
    ids=["batch norm", "tied", "old weight norm", "new weight norm", "lambda", "local class", "nested"],
)
def test_a_copy_computes_the_same(module: nn.Module) -> None:
    """Guarantee: a filled copy gives what its module gives, and training it moves nothing of the module."""
    template, x = make_template(module), torch.from_numpy(zoo.make_rows()[0])
    copied = fill_alike(module, template)
    before = {name: tensor.clone() for name, tensor in list_tensors(module)}
    assert torch.equal(module.eval()(x), copied.eval()(x))
    copied.train()(x).sum().backward()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1)
    assert all(torch.equal(before[name], tensor) for name, tensor in list_tensors(module))
    assert all(parameter.grad is None for parameter in module.parameters())


def test_tied_tensors_stay_tied() -> None:
    """Guarantee: two layers that share a matrix share it in a copy as well."""
    copied = make_template(zoo.Tied()).copy().module
    assert copied.inner.weight is copied.outer.weight


def test_frozen_weights_are_shared() -> None:
    """Guarantee: a large frozen backbone is in memory once, and what trains is each copy's own."""
    template = make_template(zoo.frozen_backbone())
    one, other = template.copy(), template.copy()
    assert one.tensors["0.weight"] is other.tensors["0.weight"]
    assert one.tensors["2.weight"] is not other.tensors["2.weight"]
    assert not one.tensors["0.weight"].requires_grad


def test_whatever_a_module_remembers_ends_with_its_copy() -> None:
    """Guarantee: buffers that do not last, tensors, lists and numbers of a module start anew (FAULT G)."""
    template, x = make_template(zoo.Stateful()), torch.ones(1, 4)
    for _ in range(2):
        module = template.copy().module
        module.train()(x)
        assert (float(module.calls), float(module.memory), module.count, module.seen) == (1.0, 1.0, 1, [1])


def test_attributes_of_parameters_are_kept() -> None:
    """Guarantee: what a user's optimizer reads from a parameter is there in the copy."""
    module = zoo.linear()
    module.bias.rate_factor = 0.5
    assert make_template(module).copy().tensors["bias"].rate_factor == 0.5


class Uncopiable(nn.Module):
    """Holds what nothing can copy."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.stream = (number for number in range(3))


def test_a_module_that_cannot_be_copied_is_said_to_be() -> None:
    """Guarantee: an open generator in a module is named as the reason."""
    with pytest.raises(LearnerError, match=r"cannot be copied for a training: TypeError: .*generator"):
        make_template(Uncopiable()).copy()


def test_values_that_nobody_fills_are_copied() -> None:
    """Guarantee: a constant that does not last has its values in every copy."""
    module = zoo.linear()
    module.register_buffer("factor", torch.tensor([2.0, 3.0]), persistent=False)
    np.testing.assert_array_equal(make_template(module).copy().module.factor, [2.0, 3.0])
