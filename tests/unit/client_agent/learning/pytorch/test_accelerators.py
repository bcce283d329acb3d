"""Where tensors are computed with: a choice of this machine's owner, and an error that says what to take instead."""

from __future__ import annotations

import pytest
import torch

from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch.accelerators import Placement, find_device
from tests import torch_zoo as zoo


@pytest.mark.parametrize("name", ["meta", "gpu", "cuda:77", "xpu", "mps", "hpu"])
def test_an_accelerator_that_is_not_there_is_refused(name: str) -> None:
    """Guarantee: no task is begun on a device that this machine or this torch does not have."""
    with pytest.raises(PluginError, match="choose accelerator cpu"):
        find_device(name)


def test_the_cpu_is_always_there() -> None:
    """Guarantee: the default works everywhere."""
    assert find_device("cpu") == torch.device("cpu")


def test_batches_take_the_precision_of_the_module() -> None:
    """Guarantee: floating inputs, however deep, become what the module has; whole numbers and labels stay."""
    place = Placement.read_module(zoo.in_precision("bfloat16"))
    x, tokens = torch.ones(2, 4), torch.ones(2, 3, dtype=torch.long)
    placed = place.place({"x": x, "pair": (x, [tokens]), "word": "as it is"})
    assert (placed["x"].dtype, placed["pair"][0].dtype) == (torch.bfloat16, torch.bfloat16)
    assert (placed["pair"][1][0].dtype, placed["word"]) == (torch.long, "as it is")
    assert place.place_labels(x) is x
    assert Placement.read_module(zoo.linear()).place(x) is x
