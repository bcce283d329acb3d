"""A module's tensors by name: each has a role by the policy's patterns, and what cannot be trained is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from client_agent.learning.layout import ModelError
from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch.modules import fill_tensor, find_roles, make_module, read_array
from schemas.policy import Parameters
from tests import torch_zoo as zoo


def test_everything_trains_by_default() -> None:
    """Guarantee: parameters train in the module's order, BatchNorm's statistics are averaged, its counter is local."""
    roles = find_roles(zoo.batch_norm(), Parameters())
    assert roles == {
        "0.weight": "trained",
        "0.bias": "trained",
        "1.weight": "trained",
        "1.bias": "trained",
        "3.weight": "trained",
        "3.bias": "trained",
        "1.running_mean": "averaged",
        "1.running_var": "averaged",
        "1.num_batches_tracked": "local",
    }


def test_statistics_stay_where_the_policy_says_so() -> None:
    """Guarantee: with buffers = "local" nothing of BatchNorm's statistics is sent (FedBN), nor what `local` names."""
    roles = find_roles(zoo.batch_norm(), Parameters(buffers="local", local=("1.*",)))
    assert {name for name, role in roles.items() if role == "local"} == {name for name in roles if name[0] == "1"}
    assert find_roles(zoo.Tables(), Parameters(buffers="local"))["positions"] == "local"


def test_a_table_is_no_statistic() -> None:
    """Guarantee: a floating buffer that nothing says is averaged is frozen; noise would destroy a table."""
    assert find_roles(zoo.Tables(), Parameters())["positions"] == "frozen"
    assert find_roles(zoo.Tables(), Parameters(averaged=("pos*",)))["positions"] == "averaged"


def test_adapters_train_alone() -> None:
    """Guarantee: patterns as for LoRA leave the rest frozen, and so does a parameter that asks for no gradient."""
    roles = find_roles(zoo.adapted(), Parameters(trained=("lora_*",)))
    assert {name for name, role in roles.items() if role == "trained"} == {
        "0.lora_a",
        "0.lora_b",
        "2.lora_a",
        "2.lora_b",
    }
    assert set(roles.values()) == {"trained", "frozen"}
    roles = find_roles(zoo.frozen_backbone(), Parameters())
    assert [name for name, role in roles.items() if role == "frozen"] == ["0.weight", "0.bias"]


def test_tied_parameters_are_one() -> None:
    """Guarantee: a matrix that two layers share stands once among the tensors."""
    assert list(find_roles(zoo.Tied(), Parameters())) == ["inner.weight", "inner.bias", "outer.bias"]
    # By whichever of its names a pattern means it.
    roles = find_roles(zoo.Tied(), Parameters(trained=("outer.*",)))
    assert roles == {"inner.weight": "trained", "inner.bias": "frozen", "outer.bias": "trained"}


def test_a_pattern_that_matches_nothing_is_told() -> None:
    """Guarantee: a misspelt pattern beside one that fits freezes nothing without a word."""
    with pytest.raises(ModelError, match=r"parameters\.trained = \['haed\.\*'\] matches none"):
        find_roles(zoo.Tied(), Parameters(trained=("inner.*", "haed.*")))
    with pytest.raises(ModelError, match=r"parameters\.local = \['haed\.\*'\] matches none"):
        find_roles(zoo.Tied(), Parameters(local=("outer.*", "haed.*")))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("lazy", "no shape yet"),
        ("lazy statistics", "no shape yet"),
        ("meta", "meta device"),
        ("complex", "view_as_real"),
        ("frozen", "nothing in the model is trained"),
        ("hook", "gradient hook"),
        ("none", "none at all"),
    ],
)
def test_what_cannot_be_trained_is_refused(kind: str, message: str) -> None:
    """Guarantee: the message names the tensor and says what to do."""
    with pytest.raises(ModelError, match=message):
        find_roles(zoo.refused(kind), Parameters())


@pytest.mark.parametrize("field", ["trained", "local"])
def test_patterns_that_match_nothing_are_refused(field: str) -> None:
    """Guarantee: a misspelt pattern does not leave a head where it must not be."""
    with pytest.raises(ModelError, match=rf"parameters\.{field} = \['hed\.\*'\].* weight, bias"):
        find_roles(zoo.linear(), Parameters(**{field: ("hed.*",)}))


def test_models_are_torch_modules() -> None:
    """Guarantee: a model plugin that gives something else, or fails, is named."""
    with pytest.raises(ModelError, match=r"returned int, expected a torch\.nn\.Module"):
        make_module(zoo.torch_policy(zoo.no_module))
    with pytest.raises(PluginError, match=r"RuntimeError: weights file is not there \(.*torch_zoo\.py:\d+\)"):
        make_module(zoo.torch_policy(zoo.raising))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_tensor_keeps_its_precision(dtype: torch.dtype) -> None:
    """Guarantee: filling rounds as torch does, reading gives float32 or what is wider, also without dimensions."""
    values = np.array([1.0, 1 / 3, -65504.0, 1e-8], np.float32)
    values.flags.writeable = False
    for array in (values, values[1:2].reshape(())):
        tensor = nn.Parameter(torch.empty(array.shape, dtype=dtype))
        fill_tensor(tensor, array, name="w")
        assert torch.equal(tensor, torch.from_numpy(array.copy()).to(dtype))
        np.testing.assert_array_equal(read_array(tensor), tensor.detach().to(torch.float64).numpy())
        assert read_array(tensor).dtype == (np.float64 if dtype == torch.float64 else np.float32)


def test_another_shape_is_refused_by_name() -> None:
    """Guarantee: a version of other shapes is not squeezed into a module."""
    with pytest.raises(ModelError, match=r"'w' has shape \(2, 3\) here and \(3, 2\)"):
        fill_tensor(torch.empty(2, 3), np.zeros((3, 2), np.float32), name="w")
