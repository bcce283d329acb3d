"""The part of the data that a device or the evaluator has, and the data plugin that reads it.

A data plugin is a callable that takes a `Part` and gives whatever the task's learner takes: for the torch learner
arrays side by side, arrays by name, or a sequence of examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class ExamplesView:
    """Some of a sequence's examples, or all of them without one of their columns; none is read before it is asked for.

    For sets of examples that are no lists: reading one may mean a file.
    """

    def __init__(self, data: Any, *, places: Sequence[int] | None = None, without: str = "") -> None:
        self._data, self._without = data, without
        self._places = range(len(data)) if places is None else places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Any:
        example = self._data[int(self._places[place])]
        if not self._without or not isinstance(example, Mapping):
            return example
        return {name: value for name, value in example.items() if name != self._without}


def is_side_by_side(data: Any) -> bool:
    """Whether data are arrays side by side, each of which has all examples; a list of two arrays is no two examples."""
    if isinstance(data, tuple):
        return True
    return isinstance(data, list) and bool(data) and all(hasattr(part, "ndim") for part in data)


def find_column(data: Any, name: str) -> Any:
    """A column of examples by its name, one value an example; None where the data have none of that name."""
    if isinstance(data, Mapping):
        return data.get(name)
    if isinstance(data, np.ndarray):
        return data[name] if name in (data.dtype.names or ()) else None
    if hasattr(data, "iloc"):
        return data[name] if name in data.columns else None
    if is_side_by_side(data) or not hasattr(data, "__getitem__") or len(data) == 0:
        return None
    has_names = isinstance(data[0], Mapping) and name in data[0]
    return [data[place].get(name) for place in range(len(data))] if has_names else None


def drop_column(data: Any, name: str) -> Any:
    """The same data without a column: what says something about examples, and is nothing to learn from."""
    if isinstance(data, Mapping):
        return {key: column for key, column in data.items() if key != name}
    return data if find_column(data, name) is None else ExamplesView(data, without=name)


def take_example(data: Any, place: int) -> Any:
    """One example of what a data plugin gave: its row of each column, or the example of a sequence."""
    if isinstance(data, Mapping):
        return {name: column[place] for name, column in data.items()}
    if is_side_by_side(data):
        return tuple(column[place] for column in data)
    return data.iloc[place] if hasattr(data, "iloc") else data[place]


def take_examples(data: Any, places: Sequence[int]) -> Any:
    """Some examples of what a data plugin gave, in the same form. Raises DataError where that cannot be told."""
    if isinstance(data, Mapping):
        return {name: _take_rows(column, places) for name, column in data.items()}
    return tuple(_take_rows(column, places) for column in data) if is_side_by_side(data) else _take_rows(data, places)


def _take_rows(column: Any, places: Sequence[int]) -> Any:
    if hasattr(column, "iloc"):
        return column.iloc[list(places)]
    if isinstance(column, list):
        return [column[place] for place in places]
    if hasattr(column, "ndim"):
        return column[np.asarray(places, np.int64)]
    if hasattr(column, "__getitem__") and hasattr(column, "__len__"):
        return ExamplesView(column, places=places)
    raise DataError(
        f"of {type(column).__name__} no part can be taken: give the learner a method `subset(data, places)`, or leave "
        "evaluation.cohort out"
    )


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
