"""Data plugins that come with fedlog: scikit-learn's handwritten digits, and a device's own `data.npz`."""

from __future__ import annotations

import zipfile
from functools import cache

import numpy as np
from sklearn.datasets import load_digits

from client_agent.learning.data import DataError, Part

Examples = tuple[np.ndarray, np.ndarray]

TEST_SHARE = 0.2
# Independent of a fleet's seed, so that the held-out examples are the same for all.
TEST_SEED = 20_240_601
DIRICHLET_ALPHA = 0.3


def digits(part: Part) -> Examples:
    """8 x 8 handwritten digits, features from 0 to 1 of shape (n, 64), labels 0 to 9.

    The train split is disjoint over `part.count` devices and non-IID: each class is spread by Dirichlet(0.3).
    """
    x, y, train, test = _load_digits()
    if part.split == "test":
        return x[test], y[test]
    if not 0 <= part.index < part.count <= len(train):
        raise DataError(f"digits: device {part.index} of {part.count}; there are {len(train)} examples to share")
    own = train[_spread(part.count, part.seed)[part.index]]
    return x[own], y[own]


def folder_npz(part: Part) -> Examples:
    """A device's own data: arrays `x` and `y` in `data.npz` of its folder (held-out data: `test.npz`)."""
    if part.folder is None:
        raise DataError("folder_npz needs a folder: it reads data.npz from there")
    path = part.folder / ("data.npz" if part.split == "train" else "test.npz")
    try:
        # A pickle can run code, so an archive that contains one is refused.
        with np.load(path, allow_pickle=False) as archive:
            return archive["x"], archive["y"]
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is not there; write it with numpy.savez({str(path)!r}, x=features, y=labels)"
        ) from error
    except (KeyError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: {error}; expected what numpy.savez(path, x=features, y=labels) writes") from error


@cache
def _load_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, labels, and the indices of the train and of the test split."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(TEST_SEED).permutation(len(y))
    held_out = round(TEST_SHARE * len(y))
    return (x / 16).astype(np.float32), y.astype(np.int64), order[held_out:], order[:held_out]


@cache
def _spread(count: int, seed: int) -> list[np.ndarray]:
    """For each device its places in the train split; disjoint, together all, none empty."""
    _, y, train, _ = _load_digits()
    rng = np.random.default_rng([seed, count])
    owner = np.empty(len(train), np.int64)
    for label in range(10):
        places = rng.permutation(np.flatnonzero(y[train] == label))
        shares = rng.dirichlet(np.full(count, DIRICHLET_ALPHA))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(places) + 0.5).astype(np.int64)
        for device, share in enumerate(np.split(places, cuts)):
            owner[share] = device
    sizes = np.bincount(owner, minlength=count)
    # A device without examples could never take part: each gets one of the device with the most.
    for empty in np.flatnonzero(sizes == 0):
        largest = int(sizes.argmax())
        owner[np.flatnonzero(owner == largest)[0]] = empty
        sizes[largest] -= 1
    return [np.flatnonzero(owner == device) for device in range(count)]
