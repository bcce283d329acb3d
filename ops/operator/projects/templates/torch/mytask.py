"""Handwritten digits, told apart by a small network; each device sees some digits often, and others hardly ever."""

from torch import nn

from fedlog.data import digits, dirichlet


def model(hidden=32):
    """64 pixels in, a score for each of ten digits out; `model_arguments` of the policy may set `hidden`."""
    return nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))


def data(part):
    """The share of device `part.index` of `part.count`, or what is held out for the evaluator."""
    return digits().share(part, dirichlet, alpha=0.3, size_min=5)
