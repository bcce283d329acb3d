"""Examples, and the data plugin that gives them to devices and to the evaluator.

A data plugin is a callable that takes a `Part` and returns features and labels; `load` calls it and checks the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from client_agent.learning.plugins import PluginError, resolve

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Examples = tuple[Features, Labels]


class DataError(PluginError):
    """The data plugin returned nothing that a model can train on."""

    code = "data_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The examples to load: those of device `index` of `count` in a fleet, those in `folder`, or the held-out split."""

    split: Literal["train", "test"] = "train"
    index: int = 0
    count: int = 1
    folder: Path | None = None
    seed: int = 0


def load(plugin: str, part: Part) -> Examples:
    """The examples of `part`: features float32 of shape (n, ...), labels int64 of shape (n,), n at least 1.

    Raises PluginError when `plugin` names no callable, DataError when it fails or returns something else.
    """
    where = f"data {plugin!r} for {part}"
    make = resolve(plugin)
    try:
        examples = make(part)
    except DataError:
        raise
    # A user's code can raise anything; what it raises must name the plugin.
    except Exception as error:
        raise DataError(f"{where}: {type(error).__name__}: {error}") from error
    if not (isinstance(examples, tuple) and len(examples) == 2):
        raise DataError(f"{where}: returned {type(examples).__name__}, expected a pair (features, labels)")
    return check_examples(examples[0], examples[1], where=where)


def check_examples(features: Any, labels: Any, *, where: str) -> Examples:
    """The pair as float32 and int64. Raises DataError, whose message starts with `where`."""
    try:
        x = np.ascontiguousarray(features, np.float32)
        raw_labels = np.asarray(labels)
        y = np.ascontiguousarray(raw_labels, np.int64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: not arrays of numbers ({error})") from error
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y):
        raise DataError(f"{where}: features {x.shape} and labels {y.shape}, expected (n, ...) and (n,)")
    if len(y) == 0:
        raise DataError(f"{where}: no examples")
    # One NaN would spread over the whole model in the first step.
    if not np.isfinite(x).all():
        raise DataError(f"{where}: a feature is NaN or infinite; clean the data first")
    # The cast to int64 would silently truncate a label such as 0.5.
    if not np.array_equal(y, raw_labels) or y.min() < 0:
        raise DataError(f"{where}: labels must be whole numbers from 0")
    return x, y
