"""Two noisy rings of points in the plane, told apart by a small network."""

import numpy as np
from torch import nn


def model(hidden=16):
    return nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 2))


def data(part):
    """The examples of device `part.index` of `part.count`, or the held-out ones."""
    held_out = part.split == "test"
    draw = np.random.default_rng([part.seed, 1_000_000 if held_out else part.index])
    labels = draw.integers(0, 2, 500 if held_out else 20)
    radius = 1 + labels + draw.normal(0, 0.2, len(labels))
    angle = draw.uniform(0, 2 * np.pi, len(labels))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), labels
