"""What a data plugin gives, as tensors by batch: arrays side by side, arrays by name, or any sequence of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from client_agent.learning.data import DataError

LABELS = "labels"

Batch = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Examples:
    """A device's examples; `take` gives those at some places as a batch: what a module is called with, then the target.

    `inputs` are keyword arguments where the data have names.
    """

    count: int
    take: Callable[[Tensor], tuple[Any, Any]]

    def __len__(self) -> int:
        return self.count

    def split(self, batch_size: int, *, shuffled: bool) -> Iterator[tuple[Any, Any]]:
        """All of them once, by batch; shuffled by torch's generator."""
        order = torch.randperm(self.count) if shuffled else torch.arange(self.count)
        for places in torch.split(order, batch_size):
            yield self.take(places)


def convert(raw: Any, *, collate: Callable[[list[Any]], Any] | None, where: str) -> Examples:
    """The examples in what a data plugin returned. Raises DataError, whose message starts with `where`."""
    if isinstance(raw, Mapping):
        return _convert_named(raw, where=where)
    # A tuple is columns; a list is examples, one after the other.
    if isinstance(raw, tuple) and len(raw) >= 2:
        return _convert_columns(raw, where=where)
    if not (hasattr(raw, "__len__") and hasattr(raw, "__getitem__")) or isinstance(raw, str | bytes | np.ndarray):
        raise DataError(
            f"{where}: {type(raw).__name__}, expected arrays side by side (features, ..., labels), a dictionary of "
            f"arrays with {LABELS!r}, or a sequence of examples with a length"
        )
    if type(raw).__module__.startswith("pandas"):
        raise DataError(f"{where}: a pandas {type(raw).__name__}; give its columns as arrays, with .to_numpy()")
    return Examples(len(raw), _take_from(raw, collate or default_collate))


def _convert_columns(raw: tuple[Any, ...], *, where: str) -> Examples:
    columns = [to_tensor(column, where=f"{where}: array {place + 1}") for place, column in enumerate(raw)]
    count = _check_lengths({f"array {place + 1}": len(column) for place, column in enumerate(columns)}, where=where)
    return Examples(count, lambda places: (tuple(c[places] for c in columns[:-1]), columns[-1][places]))


def _convert_named(raw: Mapping[str, Any], *, where: str) -> Examples:
    columns = {str(name): to_tensor(column, where=f"{where}: {name!r}") for name, column in raw.items()}
    if LABELS not in columns:
        raise DataError(f"{where}: arrays {sorted(columns)}, and none is called {LABELS!r}")
    count = _check_lengths({name: len(column) for name, column in columns.items()}, where=where)
    labels = columns.pop(LABELS)
    return Examples(count, lambda places: ({name: c[places] for name, c in columns.items()}, labels[places]))


def _take_from(raw: Sequence[Any], collate: Callable[[list[Any]], Any]) -> Callable[[Tensor], tuple[Any, Any]]:
    def take(places: Tensor) -> tuple[Any, Any]:
        batch = collate([raw[place] for place in places.tolist()])
        if isinstance(batch, Mapping):
            named = dict(batch)
            return named, named.pop(LABELS, None)
        if isinstance(batch, tuple | list) and len(batch) >= 2:
            return tuple(batch[:-1]), batch[-1]
        raise DataError(f"an example is {type(batch).__name__}, expected a pair (input, label) or a dictionary")

    return take


def to_tensor(column: Any, *, where: str) -> Tensor:
    """An array as a tensor that training understands: floats as float32, whole numbers as int64. Raises DataError."""
    if isinstance(column, Tensor):
        column = column.detach().cpu().numpy() if column.dtype != torch.bfloat16 else column.float().numpy()
    if type(column).__module__.startswith("pandas"):
        raise DataError(f"{where} is a pandas {type(column).__name__}; give it as an array, with .to_numpy()")
    try:
        array = np.asarray(column)
    except ValueError as error:
        raise DataError(f"{where}: examples of different shapes make no array ({error})") from error
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        kind = f"values of type {array.dtype}" if array.ndim else type(column).__name__
        raise DataError(f"{where}: {kind}, expected an array of numbers with one row an example")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # One NaN would spread over the whole model in the first step.
        raise DataError(f"{where}: a value is NaN or infinite; clean the data first")
    wanted = np.float32 if array.dtype.kind == "f" else np.bool_ if array.dtype.kind == "b" else np.int64
    return torch.from_numpy(np.array(array, wanted, order="C"))


def _check_lengths(lengths: Mapping[str, int], *, where: str) -> int:
    # Torch would index the shorter one until it ends, and train on pairs that never were.
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"{where}: as many rows in each are needed: {told}")
    return next(iter(lengths.values()))
