"""A step of many devices, recorded once and played again."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from client_agent.learning.pytorch.lockstep.tape import Tape, play_faster, record


def step(*inputs: Tensor) -> tuple[Tensor, ...]:
    """A small step, with the losses, slices and sums that torch would most like to put together."""
    flat, rows, labels = inputs
    weights, bias = flat[:, :12].reshape(-1, 4, 3), flat[:, 12:]
    outputs = torch.nn.functional.silu(torch.bmm(rows, weights) + bias[:, None])
    losses = -outputs.log_softmax(2).gather(2, labels[..., None]).squeeze(2)
    return flat - 0.1 * torch.cat([outputs.sum(1).repeat(1, 4), losses.mean(1, keepdim=True).expand(-1, 3)], 1), losses


def draw(seed: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    flat, rows = (torch.randn(*shape, generator=generator) for shape in ((32, 15), (32, 5, 4)))
    return flat, rows, torch.randint(0, 3, (32, 5), generator=generator)


def find_bits(tensors: tuple[Tensor, ...]) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in tensors]


def test_torch_plays_a_tape_to_the_bits_of_python() -> None:
    """Guarantee: who plays a tape changes no bit, so that a device learns the same whoever came before it."""
    tape, given = record(step, *draw(0))
    play = play_faster(tape, draw(0))
    assert play != tape.play
    assert find_bits(given) == find_bits(play(*draw(0)))
    for seed in range(1, 4):
        assert find_bits(play(*draw(seed))) == find_bits(tape.play(*draw(seed)))


def test_what_torch_does_not_take_is_played_by_python() -> None:
    """Guarantee: a tape is played whatever the interpreter says; here it holds no constant that wants a gradient."""
    tape, _ = record(step, *draw(0))
    held = torch.ones(2, requires_grad=True)
    wanting = replace(tape, start=(*tape.start, held), results=(*tape.results, len(tape.start)))
    play = play_faster(wanting, draw(0))
    assert isinstance(wanting, Tape)
    assert play == wanting.play
    assert find_bits(play(*draw(1))[:2]) == find_bits(tape.play(*draw(1)))
