"""Where tensors are computed with: a choice of this machine's owner, and an error that says what to take instead."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.plugins import PluginError
from client_agent.learning.pytorch.accelerators import Placement, explain_failures, find_device
from tests import torch_zoo as zoo

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["meta", "gpu", "cuda:77", "xpu", "mps", "hpu", "privateuseone"])
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


class Pair(NamedTuple):
    """Two inputs with names."""

    left: Any
    right: Any


class Moving:
    """What knows by itself how it gets somewhere, as a graph does."""

    place: Any = None

    def to(self, place: Any) -> Moving:
        self.place = place
        return self


def test_whatever_holds_tensors_stays_what_it_is() -> None:
    """Guarantee: tuples with names and packed sequences reach a module as they are, and what moves itself is asked."""
    place = Placement.read_module(zoo.in_precision("bfloat16"))
    x = torch.ones(3, 4)
    pair = place.place(Pair(x, (x, "word")))
    assert isinstance(pair, Pair)
    assert (pair.left.dtype, pair.right[0].dtype) == (torch.bfloat16, torch.bfloat16)
    packed = place.place(nn.utils.rnn.pack_sequence([x, x[:2]]))
    assert isinstance(packed, nn.utils.rnn.PackedSequence)
    assert packed.data.dtype == torch.bfloat16
    assert place.place(Moving()).place == CPU


class Greedy(nn.Module):
    """Asks for more memory than any machine has."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, features: Tensor) -> Tensor:
        scores: Tensor = self.layer(features) + torch.ones(1 << 55)
        return scores


def test_want_of_memory_is_told_as_such() -> None:
    """Guarantee: it gives the lease up and names the place and what helps, and nobody is told to mind his data."""
    learner = zoo.open_torch(zoo.torch_policy(Greedy))
    for work in (zoo.train_once, lambda one, data: one.evaluate(zoo.find_start(one), data)):
        with pytest.raises(LearnerError, match=r"too little memory on cpu: lower training\.batch_size") as caught:
            work(learner, zoo.make_rows())
        assert "--accelerator" not in str(caught.value)
        assert "indices" not in str(caught.value)


def fail(error: Exception) -> None:
    """What a user's loop may meet."""
    raise error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), r"too little memory on cuda:1.*or take --accelerator cpu"),
        (
            RuntimeError("Expected all tensors to be on the same device, but"),
            r"the model is on cuda:1.*register_buffer",
        ),
        (
            RuntimeError("Input type (torch.FloatTensor) and weight type (torch.cuda.FloatTensor) should be the same"),
            r"the model is on cuda:1.*parameters\(\)\)\.device",
        ),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), r"cuda:1 has failed.*start it again"),
    ],
)
def test_what_an_accelerator_refuses_is_explained(monkeypatch: pytest.MonkeyPatch, error: Exception, told: str) -> None:
    """Guarantee: in a user's own loop too; the message has the device, what helps, and the loop's own name."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    with pytest.raises(LearnerError, match=told) as caught, explain_failures(torch.device("cuda:1")):
        call("training 'mine:train'", fail, error)
    assert "mine:train" in str(caught.value)


def test_other_errors_keep_their_own_words() -> None:
    """Guarantee: only what an accelerator has to do with is explained by it."""
    with pytest.raises(KeyError), explain_failures(torch.device("cuda")):
        fail(KeyError("mine"))
