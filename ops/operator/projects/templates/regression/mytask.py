"""How diabetes goes on after a year, from ten measurements of each patient: a number, and no class."""

from torch import nn

from fedlog.data import diabetes, linear


def model():
    """One number out for each patient."""
    return nn.Sequential(nn.Linear(10, 1), nn.Flatten(0))


def data(part):
    """The share of device `part.index` of `part.count`, the last with most, or what is held out for the evaluator."""
    return diabetes().share(part, linear, size_min=5)
