"""The data plug point: one callable gives a fleet's device, a real device and the evaluator their examples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from client_agent.learning.plugins import PlugError, resolve

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Examples = tuple[Features, Labels]


class DataError(PlugError):
    """The data plug point gave nothing that a model can train on."""

    code = "data_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which examples are wanted: device `index` of `count` in a fleet, the data in `folder`, or the held-out split."""

    split: Literal["train", "test"] = "train"
    index: int = 0
    count: int = 1
    folder: Path | None = None
    seed: int = 0


def load(plug: str, part: Part) -> Examples:
    """The examples of `part`: features float32 of shape (n, ...), labels int64 of shape (n,), n at least 1.

    Raises PlugError when `plug` names no callable, DataError when it fails or gives something else.
    """
    where = f"data {plug!r} for {part}"
    make = resolve(plug)
    try:
        given = make(part)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{where}: {type(error).__name__}: {error}") from error
    if not (isinstance(given, tuple) and len(given) == 2):
        raise DataError(f"{where}: gave {type(given).__name__}, expected a pair (features, labels)")
    return checked(given[0], given[1], where=where)


def checked(features: Any, labels: Any, *, where: str) -> Examples:
    """The pair as float32 and int64. Raises DataError that starts with `where`."""
    try:
        x = np.ascontiguousarray(features, np.float32)
        y_given = np.asarray(labels)
        y = np.ascontiguousarray(y_given, np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not arrays of numbers ({error})") from error
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y):
        raise DataError(f"{where}: features {x.shape} and labels {y.shape}, expected (n, ...) and (n,)")
    if len(y) == 0:
        raise DataError(f"{where}: no examples")
    if not np.isfinite(x).all():
        raise DataError(f"{where}: a feature is NaN or infinite; clean the data first")
    if not np.array_equal(y, y_given) or y.min() < 0:
        raise DataError(f"{where}: labels must be whole numbers from 0")
    return x, y
