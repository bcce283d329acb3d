"""The part of the data that a device or the evaluator has, and the data plugin that reads it.

A data plugin is a callable that takes a `Part` and gives whatever the task's learner takes: for the torch learner
arrays side by side, arrays by name, or a sequence of examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from client_agent.learning.foreign import LearnerError, call
from client_agent.learning.plugins import PluginError, resolve


class DataError(PluginError):
    """The data plugin returned nothing that a model can train on."""

    code = "data_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The examples to load: those of device `index` of `count` in a fleet, those in `folder`, or the held-out split.

    `plugin` names who reads them.
    """

    split: Literal["train", "test"] = "train"
    index: int = 0
    count: int = 1
    folder: Path | None = None
    seed: int = 0
    plugin: str = ""

    def __str__(self) -> str:
        place = f"device {self.index} of {self.count}" if self.split == "train" else "the held-out split"
        return place if self.folder is None else f"{place} in {self.folder}"

    def read(self) -> Any:
        """What the data plugin gives for this part. Raises PluginError for a wrong name, DataError where it fails."""
        if not self.plugin:
            raise DataError("no data plugin is named: the policy's `data` or the option --data names one")
        make = resolve(self.plugin)
        try:
            return call(f"data {self.plugin!r} for {self}", make, self)
        except LearnerError as error:
            raise DataError(str(error)) from error


class TooFewClasses(LearnerError):
    """The device's labels have fewer classes than the policy asks for: data, and no error of anybody."""

    code = "too_few_classes"


def count_classes(data: Any) -> int | None:
    """How many classes the labels of examples have; None where they are no whole numbers, one an example.

    Labels are the last of arrays side by side, or those called `labels`. Negative ones mean "to be ignored".
    """
    if isinstance(data, Mapping):
        labels = data.get("labels")
    else:
        labels = data[-1] if isinstance(data, tuple) and len(data) > 1 else None
    if labels is None:
        return None
    array = np.asarray(labels)
    if array.dtype.kind not in "biu" or array.ndim != 1:
        return None
    return len(np.unique(array[array >= 0]))


def find_fault(rows: Any) -> str | None:
    """What keeps rows from being an array of finite numbers, by row and column (from 0), or None."""
    try:
        array = np.asarray(rows)
    except (ValueError, TypeError) as error:
        return _find_odd_row(rows) or f"it is no array ({error})"
    if array.dtype.kind in "OUS" and array.ndim > 0:
        # As they were given: numpy would have made texts of the numbers beside one.
        return _find_odd_row(rows) or _find_no_number(np.asarray(rows, dtype=object))
    if array.dtype.kind not in "fc":
        return None
    bad = np.argwhere(~np.isfinite(array))
    if len(bad) == 0:
        return None
    more = f" ({len(bad)} such values in all)" if len(bad) > 1 else ""
    return f"{_name_place(bad[0])} is {array[tuple(bad[0])]}{more}: clean the data first"


def _find_odd_row(rows: Any) -> str | None:
    """The first row of another length than the row before it: no array can be made of such."""
    lengths = [len(row) if hasattr(row, "__len__") and not isinstance(row, str | bytes) else None for row in rows]
    odd = next((place for place in range(1, len(lengths)) if lengths[place] != lengths[0]), None)
    return None if odd is None else f"row {odd} has {lengths[odd]} columns, row 0 has {lengths[0]}"


def _find_no_number(array: np.ndarray[Any, Any]) -> str | None:
    """The first element that is a text, None, or whatever else is no number."""
    for place in np.ndindex(array.shape):
        if not isinstance(array[place], int | float | np.number | np.bool_):
            kind = "the text" if isinstance(array[place], str) else type(array[place]).__name__
            return f"{_name_place(place)} is {kind} {array[place]!r:.40}, and no number"
    return None


def _name_place(place: Any) -> str:
    row, *columns = (int(number) for number in place)
    return f"row {row}" + (f", column {', '.join(map(str, columns))}" if columns else "")
