"""Low-rank adapters on a transformer that base.py has trained."""

import torch
from torch import nn

from fedlog.data import group_id, standard_library

WIDTH = 32


class Attention(nn.Module):
    """Causal attention of four heads, with an adapter of some rank on its first layer."""

    def __init__(self, rank=0):
        super().__init__()
        self.inward, self.outward = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        if rank:
            self.lora_down = nn.Parameter(torch.randn(rank, WIDTH) / WIDTH**0.5)
            self.lora_up = nn.Parameter(torch.zeros(3 * WIDTH, rank))
        self.rank = rank

    def forward(self, x):
        """Of shape (n, time, WIDTH)."""
        mixed = self.inward(x)
        if self.rank:
            mixed = mixed + x @ self.lora_down.T @ self.lora_up.T
        q, k, v = (part.unflatten(-1, (4, WIDTH // 4)).transpose(1, 2) for part in mixed.chunk(3, dim=-1))
        found = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.outward(found.transpose(1, 2).flatten(-2))


class Block(nn.Module):
    """Attention and two layers behind it."""

    def __init__(self, rank=0):
        super().__init__()
        self.attention, self.before, self.after = Attention(rank), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.inner = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x):
        """Of the same shape."""
        x = x + self.attention(self.before(x))
        return x + self.inner(self.after(x))


class Transformer(nn.Module):
    """Scores of every next letter."""

    def __init__(self, rank=0):
        super().__init__()
        self.table = nn.Embedding(128, WIDTH)
        self.register_buffer("positions", torch.randn(32, WIDTH) * 0.1)
        self.blocks = nn.ModuleList([Block(rank) for _ in range(2)])
        self.head = nn.Linear(WIDTH, 128)

    def forward(self, text):
        """From letters of shape (n, time)."""
        x = self.table(text) + self.positions[: text.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def model(rank=4):
    """The trained transformer, and adapters that change nothing yet."""
    net = Transformer(rank)
    net.load_state_dict(torch.load("base.pt", weights_only=True), strict=False)
    return net


def data(part):
    """The modules of one device, or what is held out."""
    x, y = standard_library(modules_max=60).share(part, group_id)
    return x[:200], y[:200]
