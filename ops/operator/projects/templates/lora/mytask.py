"""Low-rank adapters (LoRA, Hu et al. 2022) on a frozen network: only what trains is in updates, sums and noise."""

import torch
from torch import nn

from fedlog.data import digits, dirichlet


class Adapted(nn.Module):
    """A linear layer that stays as it is, plus a product of two thin matrices that train."""

    def __init__(self, layer, rank):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / layer.in_features**0.5)
        # Zeros: the first version answers as the frozen network does.
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x):
        """W x + up down x."""
        return self.layer(x) + x @ self.down.T @ self.up.T


def model(rank=8):
    """Load a network of your own here: layer.load_state_dict(torch.load("base.pt", weights_only=True))."""
    base = nn.Linear(64, 256)
    return nn.Sequential(Adapted(base, rank), nn.ReLU(), Adapted(nn.Linear(256, 10), rank))


def data(part):
    """The share of device `part.index` of `part.count`, or what is held out for the evaluator."""
    return digits().share(part, dirichlet, alpha=1.0, size_min=5)
