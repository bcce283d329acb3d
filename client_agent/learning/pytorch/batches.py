"""What a data plugin gives, as tensors by batch: arrays side by side, arrays by name, or any sequence of examples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import default_collate

from client_agent.learning.data import DataError, find_fault

LABELS = "labels"
EXPECTED = (
    f"expected arrays side by side (features, ..., labels), a dictionary of arrays with {LABELS!r}, or a sequence of "
    "examples with a length"
)

# What a module is called with, as keyword arguments where the data have names, and the labels.
Batch = tuple[Any, Any]
Collate = Callable[[list[Any]], Any]
# Kept as they are in memory: a batch of them becomes int64, and images of bytes need not take eight times the room.
_SMALL = (torch.uint8, torch.int8, torch.int16, torch.int32)


@dataclass(frozen=True, slots=True)
class Columns:
    """Examples side by side as they lie in memory, labels last; `names` are those of the inputs, if they have any."""

    tensors: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.tensors[0])

    def count_bytes(self) -> int:
        """How much memory they take."""
        return sum(tensor.nbytes for tensor in self.tensors)


@dataclass(frozen=True, slots=True)
class Examples:
    """A device's examples; `take` gives those at some places as a batch.

    `columns`: the same in one piece, where they have labels and lie so.
    """

    count: int
    take: Callable[[Tensor], Batch]
    columns: Columns | None = None

    def __len__(self) -> int:
        return self.count

    def split(self, batch_size: int, *, is_shuffled: bool, joins_single: bool = False) -> Iterator[Batch]:
        """All of them once, by batch; shuffled by torch's generator.

        `joins_single`: a last batch of one joins the batch before it, because normalising over one makes no sense.
        """
        order = torch.randperm(self.count) if is_shuffled else torch.arange(self.count)
        parts = list(torch.split(order, batch_size))
        if joins_single and len(parts) > 1 and len(parts[-1]) == 1:
            parts[-2:] = [torch.cat(parts[-2:])]
        return map(self.take, parts)


def convert(raw: Any, *, collate: Collate | None = None, where: str) -> Examples:
    """The examples in what a data plugin returned. Raises DataError, whose message starts with `where`."""
    _refuse_frames(raw, where=where)
    if isinstance(raw, Mapping):
        return _convert_named(raw, where=where)
    # A list of two arrays is no list of two examples.
    if isinstance(raw, tuple) or (isinstance(raw, list) and raw and all(map(_is_array, raw))):
        if len(raw) < 2:
            raise DataError(f"{where}: a {type(raw).__name__} of {len(raw)}, {EXPECTED}")
        return _convert_columns(raw, where=where)
    if isinstance(raw, str | bytes) or _is_array(raw) or not (hasattr(raw, "__len__") and hasattr(raw, "__getitem__")):
        hint = "; call list() on it" if isinstance(raw, Iterator) else ""
        hint = "; give its dataset" if isinstance(raw, torch.utils.data.DataLoader) else hint
        raise DataError(f"{where}: {type(raw).__name__}, {EXPECTED}{hint}")
    if collate is None and type(raw) is list:
        _refuse_lists(raw, where=where)
    return Examples(len(raw), _take_from(raw, collate or _collate_lists, where=where))


def count_examples(raw: Any) -> int:
    """How many examples there are in data that a loop of the user's own reads; 1 where nothing tells."""
    if isinstance(raw, Mapping) and raw:
        raw = raw[LABELS] if LABELS in raw else next(iter(raw.values()))
    elif isinstance(raw, tuple) or (isinstance(raw, list) and raw and all(map(_is_array, raw))):
        raw = raw[0] if raw else ()
    elif isinstance(raw, torch.utils.data.DataLoader):
        # Its length is that of its batches.
        raw = raw.dataset
    return len(raw) if hasattr(raw, "__len__") else 1


def _convert_columns(raw: Sequence[Any], *, where: str) -> Examples:
    columns = [to_tensor(column, where=f"{where}: array {place + 1}") for place, column in enumerate(raw)]
    count = _check_lengths({f"array {place + 1}": len(column) for place, column in enumerate(columns)}, where=where)
    takers = [_make_taker(column) for column in columns]
    *features, labels = takers
    return Examples(
        count, lambda places: (tuple([take(places) for take in features]), labels(places)), Columns(tuple(columns))
    )


def _convert_named(raw: Mapping[str, Any], *, where: str) -> Examples:
    columns = {str(name): to_tensor(column, where=f"{where}: {name!r}") for name, column in raw.items()}
    if len(columns.keys() - {LABELS}) == 0:
        raise DataError(f"{where}: a dictionary with {sorted(columns)}, {EXPECTED}")
    count = _check_lengths({name: len(column) for name, column in columns.items()}, where=where)
    takers = {name: _make_taker(column) for name, column in columns.items()}
    # Without labels the model may tell its own loss, or a loss plugin do without.
    labels = takers.pop(LABELS, _take_nothing)
    joined = (
        Columns((*[columns[name] for name in takers], columns[LABELS]), tuple(takers)) if LABELS in columns else None
    )
    return Examples(
        count, lambda places: ({name: take(places) for name, take in takers.items()}, labels(places)), joined
    )


def _take_nothing(places: Tensor) -> None:
    del places


def _make_taker(column: Tensor) -> Callable[[Tensor], Any]:
    return (lambda places: widen(column[places])) if column.dtype in _SMALL else column.__getitem__


def widen(taken: Tensor) -> Tensor:
    """Rows of a column as a batch has them: whole numbers as int64."""
    return taken.long() if taken.dtype in _SMALL else taken


def _refuse_lists(raw: list[Any], *, where: str) -> None:
    """Raises DataError for rows and columns in Python's own lists, of which each would be taken for an example."""
    first = raw[0] if raw else None
    if type(first) is not list or len(first) < 3:
        return
    columns = len(raw) == 2 and type(raw[1]) is list and len(raw[1]) == len(first)
    rows = all(isinstance(value, int | float) for value in first)
    if rows or columns:
        what = "a list of rows" if rows else "a list of two lists"
        raise DataError(
            f"{where}: {what}; give arrays side by side, (np.asarray(features), np.asarray(labels)), or a list of "
            "pairs (features, label)"
        )


def _collate_lists(examples: list[Any]) -> Any:
    """As torch does, but for lists of numbers in an example, which it would take apart."""
    return default_collate([_join_numbers(example) for example in examples])


def _join_numbers(example: Any) -> Any:
    if isinstance(example, Mapping):
        return {name: _to_row(value) for name, value in example.items()}
    return tuple(map(_to_row, example)) if type(example) in (tuple, list) else example


def _to_row(value: Any) -> Any:
    # Texts and examples of another kind stay what they are.
    if type(value) is not list or not value:
        return value
    return torch.tensor(value) if isinstance(value[0], int | float | list) else value


def _take_from(raw: Sequence[Any], collate: Collate, *, where: str) -> Callable[[Tensor], Batch]:
    def take(places: Tensor) -> Batch:
        listed = [raw[place] for place in places.tolist()]
        try:
            batch = collate(listed)
        # What torch raises for examples that make no stack; errors of a plugin come with a type and place of their own.
        except (RuntimeError, TypeError, ValueError) as error:
            advice = "name a plugin that makes a batch of such examples in training.collate"
            raise DataError(f"{where}: {error}; {advice}") from error
        return split_batch(batch, where=where)

    return take


def split_batch(batch: Any, *, where: str) -> Batch:
    """A collated batch as inputs and labels. Raises DataError."""
    batch = _settle(batch)
    if isinstance(batch, Mapping):
        named = dict(batch)
        labels = named.pop(LABELS, None)
        return named, labels
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        return tuple(batch[:-1]), batch[-1]
    raise DataError(f"{where}: a batch is {type(batch).__name__}, expected a pair (inputs, labels) or a dictionary")


def _settle(value: Any) -> Any:
    """The same with floating numbers as float32 and whole ones as int64: Python's own floats collate to float64."""
    if isinstance(value, np.ndarray):
        value = to_tensor(value, where="a batch")
    if isinstance(value, Tensor):
        if value.is_floating_point():
            return value.float()
        return value.long() if value.dtype in _SMALL else value
    if isinstance(value, Mapping):
        return {name: _settle(part) for name, part in value.items()}
    return type(value)(map(_settle, value)) if type(value) in (tuple, list) else value


def to_tensor(column: Any, *, where: str) -> Tensor:
    """An array as a tensor that training understands: floats as float32, whole numbers stay whole. Raises DataError."""
    array = _to_array(column, where=where)
    if array.ndim == 0 or array.dtype.kind not in "fiub":
        raise DataError(f"{where}: {_describe(column, array)}, expected an array of numbers with one row an example")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        # One NaN would spread over the whole model in the first step.
        raise DataError(f"{where}: {find_fault(array)}")
    with warnings.catch_warnings():
        # Nothing here writes to examples: a batch is always a copy of its rows, also of a file that is only mapped.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(_to_native(array))


def _to_array(column: Any, *, where: str) -> npt.NDArray[Any]:
    _refuse_frames(column, where=where)
    if isinstance(column, Tensor):
        plain = column.detach().cpu()
        column = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy() if not plain.is_sparse else plain
    try:
        return np.asarray(column)
    except (ValueError, TypeError) as error:
        fault = find_fault(column) or error
        raise DataError(f"{where}: examples of different shapes make no array ({fault}); pad them") from error


def _to_native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """In a precision, byte order and layout that torch has."""
    if array.dtype.kind == "f":
        wanted: Any = np.float32
    elif array.dtype.kind == "b" or array.dtype.newbyteorder("=") in (np.uint8, np.int8, np.int16, np.int32):
        wanted = array.dtype.newbyteorder("=")
    else:
        wanted = np.int64
    return np.ascontiguousarray(array, wanted)


def _describe(column: Any, array: npt.NDArray[Any]) -> str:
    if array.ndim == 0:
        return f"a {type(column).__name__}" + ("; call list() on it" if isinstance(column, Iterator) else "")
    # A table of pandas gives objects for columns of texts, and for columns of different kinds side by side.
    if array.dtype.kind in "OUS":
        if (fault := find_fault(array)) is None:
            return "numbers kept as objects; give them as numbers, with .astype('float32')"
        return f"{fault}: give each text its number" if "the text" in fault else fault
    return f"values of type {array.dtype}"


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


def _refuse_frames(value: Any, *, where: str) -> None:
    """Raises DataError for a table of another library, which must be told to become arrays."""
    if (library := type(value).__module__.partition(".")[0]) in ("pandas", "polars"):
        raise DataError(
            f"{where}: a {library} {type(value).__name__}; give its columns as arrays, with .to_numpy(), for instance "
            "(frame[names].to_numpy(), frame['label'].to_numpy())"
        )
    if type(value).__module__.startswith("scipy.sparse"):
        raise DataError(f"{where}: a sparse {type(value).__name__}; give it as an array, with .toarray()")


def _check_lengths(lengths: Mapping[str, int], *, where: str) -> int:
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise DataError(f"{where}: as many rows in each are needed: {told}")
    return next(iter(lengths.values()))


class Loaded:
    """What a data plugin gave for a part: as it is, for code of the user's own, and as examples.

    `is_raw`: only the user's code is known to read it, so it need not be examples. `is_kept`: that code may still ask.
    """

    def __init__(self, raw: Any, convert_raw: Callable[[Any], Examples], *, is_raw: bool, is_kept: bool) -> None:
        # At once, so that wrong data are told when they are loaded.
        self._examples = None if is_raw else convert_raw(raw)
        self._convert = convert_raw
        self.raw = raw if is_kept else None

    def __len__(self) -> int:
        return count_examples(self.raw) if self._examples is None else len(self._examples)

    def read_examples(self) -> Examples:
        """The examples. Raises DataError."""
        if self._examples is None:
            self._examples = self._convert(self.raw)
        return self._examples
