"""A module called with a batch: what it may give, and errors that say what to change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from client_agent.learning.foreign import LearnerError
from client_agent.learning.pytorch.forwarding import forward
from tests import torch_zoo as zoo


def test_inputs_with_names_are_keyword_arguments() -> None:
    """Guarantee: a model of a hub gets its arguments by name, and its logits are what a loss sees."""
    tokens, mask = torch.arange(6).reshape(2, 3), torch.ones(2, 3)
    found = forward(zoo.Tokens(), {"input_ids": tokens, "attention_mask": mask})
    assert found.shape == (2, 3, 7)


def test_a_dictionary_or_a_pair_is_left_to_a_loss_plugin() -> None:
    """Guarantee: what a model returns reaches the user's loss as it is; a bare number is no output."""
    x = (torch.ones(2, 4),)
    assert set(forward(zoo.Returning("mapping"), x)) == {"scores"}
    assert len(forward(zoo.Returning("pair"), x)) == 2
    with pytest.raises(LearnerError, match="returned float, expected a tensor"):
        forward(zoo.Returning("number"), x)


def test_half_precision_is_scored_in_full() -> None:
    """Guarantee: a loss is taken of float32 where the model has fewer bits."""
    assert forward(zoo.linear().to(torch.bfloat16), (torch.ones(2, 4, dtype=torch.bfloat16),)).dtype == torch.float32


def test_batch_norm_over_one_example_is_explained() -> None:
    """Guarantee: torch's error about one value per channel comes with the field to change."""
    with pytest.raises(LearnerError, match=r"BatchNorm needs two examples .* training\.batch_size"):
        forward(zoo.batch_norm().train(), (torch.ones(1, 4),))


def test_whole_numbers_in_a_layer_of_floats_are_explained() -> None:
    """Guarantee: images of bytes that meet a convolution are told how to become floats."""
    with pytest.raises(LearnerError, match="divide them in the data plugin"):
        forward(nn.Conv2d(1, 2, 3), (torch.ones(1, 1, 4, 4, dtype=torch.long),))


def test_data_of_another_shape_are_explained() -> None:
    """Guarantee: where model and data do not go together, the error shows what the data are."""
    with pytest.raises(LearnerError, match=r"cannot be multiplied .*gives batches of shape \(2, 5\)"):
        forward(zoo.linear(), (torch.ones(2, 5),))


def test_data_of_another_name_are_explained() -> None:
    """Guarantee: whoever gives arrays by name learns that the model's parameters are called so."""
    with pytest.raises(LearnerError, match=r"under these, here x: .*\(features, labels\)"):
        forward(zoo.linear(), {"x": torch.ones(2, 4)})


def test_other_errors_are_the_models_own() -> None:
    """Guarantee: an error that is not understood keeps its type and its place."""

    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        forward(Odd(), (torch.ones(2, 5),))
