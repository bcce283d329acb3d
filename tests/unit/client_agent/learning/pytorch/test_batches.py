"""What data plugins give: the forms that are taken, their types, and what each error tells its author to do."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from client_agent.learning.data import DataError
from client_agent.learning.pytorch.batches import Examples, Loaded, convert, count_examples, to_tensor
from tests import torch_zoo as zoo


def read_all(raw: Any, **options: Any) -> tuple[Any, Any]:
    """All examples as one batch."""
    examples = convert(raw, where="data 'a:b'", **options)
    [batch] = examples.split(1000, is_shuffled=False)
    return batch


def test_arrays_side_by_side() -> None:
    """Guarantee: all arrays but the last are the model's arguments, in a tuple or in a list."""
    x, y = zoo.make_rows()
    for raw in ((x, y), [x, y], (torch.from_numpy(x), y.tolist())):
        inputs, labels = read_all(raw)
        assert len(inputs) == 1
        np.testing.assert_array_equal(inputs[0], x)
        np.testing.assert_array_equal(labels, y)
    assert [len(part) for part in read_all((x, x[:, 0], y))[0]] == [12, 12]


def test_arrays_by_name() -> None:
    """Guarantee: a dictionary gives keyword arguments, and its labels apart; labels may be left out."""
    x, y = zoo.make_rows()
    inputs, labels = read_all({"input_ids": x, "mask": x > 0, "labels": y})
    assert (set(inputs), inputs["mask"].dtype) == ({"input_ids", "mask"}, torch.bool)
    np.testing.assert_array_equal(labels, y)
    assert read_all({"x": x})[1] is None


def test_sequences_of_examples() -> None:
    """Guarantee: a list of pairs, a list of dictionaries and a torch Dataset are collated, in float32."""
    x, y = zoo.make_rows()
    pairs = [(list(map(float, row)), int(label)) for row, label in zip(x, y, strict=True)]
    listed = [{"features": row, "labels": label} for row, label in zip(x.astype(np.float64), y, strict=True)]
    for raw in (
        TensorDataset(torch.from_numpy(x), torch.from_numpy(y)),
        listed,
        [(row, label) for row, label in pairs],
        [[row, label] for row, label in pairs],
        [{"features": row, "labels": label} for row, label in pairs],
    ):
        inputs, labels = read_all(raw)
        found = inputs["features"] if isinstance(inputs, dict) else inputs[0]
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found, x)
        np.testing.assert_array_equal(labels, y)


def test_a_collate_plugin_makes_batches() -> None:
    """Guarantee: examples of different lengths need a plugin that pads them, and the error says which field."""
    raw = [([1, 2, 3], 0), ([4], 1)]
    inputs, labels = read_all(raw, collate=zoo.own_collate)
    assert inputs[0].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert labels.tolist() == [0, 1]
    with pytest.raises(DataError, match=r"training\.collate"):
        read_all(raw)
    with pytest.raises(DataError, match="a batch is Tensor, expected a pair"):
        read_all(raw, collate=lambda listed: torch.ones(len(listed)))


@pytest.mark.parametrize(
    ("given", "kept", "batched"),
    [
        ("f8", torch.float32, torch.float32),
        ("f2", torch.float32, torch.float32),
        (">f4", torch.float32, torch.float32),
        ("u1", torch.uint8, torch.int64),
        ("i2", torch.int16, torch.int64),
        (">i4", torch.int32, torch.int64),
        ("u4", torch.int64, torch.int64),
        ("i8", torch.int64, torch.int64),
        ("?", torch.bool, torch.bool),
    ],
)
def test_types_of_numbers(given: str, kept: torch.dtype, batched: torch.dtype) -> None:
    """Guarantee: floats become float32; whole numbers stay whole, small ones small until they are in a batch."""
    array = np.array([[0, 1], [1, 0], [1, 1]]).astype(given)
    assert to_tensor(array, where="x").dtype == kept
    inputs, _ = read_all((array, np.zeros(3)))
    assert inputs[0].dtype == batched
    np.testing.assert_array_equal(inputs[0], array.astype(np.float64))


def test_bfloat16_and_read_only_arrays() -> None:
    """Guarantee: tensors in half precision and memory that must not be written to are data as well."""
    assert to_tensor(torch.ones(2, dtype=torch.bfloat16, requires_grad=True), where="x").dtype == torch.float32
    array = np.ones((3, 2), np.float32)
    array.flags.writeable = False
    inputs, _ = read_all((array, np.zeros(3)))
    inputs[0].add_(1)
    assert array.sum() == 6
    np.testing.assert_array_equal(read_all((array[:, ::-1], np.zeros(3)))[0][0], array)


class Frame:
    """Stands in for a table of pandas, which this environment does not have."""


def generate() -> Iterator[int]:
    yield 1


X, Y = zoo.make_rows()
BAD: dict[str, tuple[Any, str]] = {
    "nothing": (None, "NoneType, expected arrays side by side"),
    "one array": (X, "ndarray, expected arrays side by side"),
    "a tuple of one": ((X,), "a tuple of 1, expected"),
    "a generator": (generate(), "generator, expected .* list"),
    "a generator as a column": ((X, generate()), "array 2: a generator; call list"),
    "a number": ((X, 3), "array 2: a int, expected an array"),
    "a loader": (DataLoader(TensorDataset(torch.ones(2, 2))), "DataLoader, expected .*; give its dataset"),
    "a text": ("rows", "str, expected"),
    "texts": (
        (X, np.array(["cat"] * 12)),
        "array 2: row 0 is the text 'cat', and no number: give each text its number",
    ),
    "texts as pandas gives them": (
        (X, np.array(["cat"] * 12, object)),
        "array 2: row 0 is the text 'cat', and no number: give each text its number",
    ),
    "a text among numbers": (
        (np.array([[1.0, 2], [3, "low"]], object), Y[:2]),
        "array 1: row 1, column 1 is the text 'low', and no number: give each text its number",
    ),
    "numbers kept as objects": ((X.astype(object), Y), "array 1: numbers kept as objects; .*astype"),
    "nothing as a label": ((X, np.array([None] * 12)), "array 2: row 0 is NoneType None, and no number, expected"),
    "ragged": (
        ([[1, 2], [3]], [0, 1]),
        "array 1: examples of different shapes .*row 1 has 1 columns, row 0 has 2.*; pad them",
    ),
    "rows in lists": ([[1.0, 2.0, 0], [3.0, 4.0, 1]], r"a list of rows; give arrays side by side, .np\.asarray"),
    "columns in lists": ([[[1.0], [2.0], [3.0]], [0, 1, 0]], r"a list of two lists; give arrays side by side"),
    "other lengths": ((X, Y[:-1]), "array 1 has 12, array 2 has 11"),
    "only labels": ({"labels": Y}, r"a dictionary with \['labels'\], expected"),
    "no numbers": (
        (np.full((3, 2), np.nan), np.zeros(3)),
        "array 1: row 0, column 0 is nan .6 such values in all.: clean",
    ),
    "infinite": ({"x": X, "labels": np.full(12, np.inf)}, "'labels': row 0 is inf"),
    "complex": ((X.astype(complex), Y), "values of type complex128"),
    "dates": ((np.array(["2026-01-01"], "M8[D]"), np.zeros(1)), "values of type datetime64"),
    "sparse": ((torch.eye(3).to_sparse(), np.zeros(3)), "array 1: "),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_data_is_refused(case: str) -> None:
    """Guarantee: the message begins with the plugin, names the array, says what it is and what to give instead."""
    raw, message = BAD[case]
    with pytest.raises(DataError, match=f"^data 'a:b': .*{message}" if not message.startswith("array") else message):
        convert(raw, where="data 'a:b'")


@pytest.mark.parametrize("library", ["pandas.core.frame", "polars.dataframe"])
def test_tables_are_told_to_become_arrays(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a DataFrame, alone or as a column, is refused with the call that makes arrays of it."""
    monkeypatch.setattr(Frame, "__module__", library)
    for raw in (Frame(), (X, Frame()), {"x": Frame(), "labels": Y}):
        with pytest.raises(DataError, match=r"Frame; give its columns as arrays, with \.to_numpy\(\)"):
            convert(raw, where="data 'a:b'")
    assert isinstance(ModuleType(library), ModuleType)


def test_an_empty_set_has_no_batch() -> None:
    """Guarantee: no examples are no error here; whoever loads them counts."""
    for raw in ((X[:0], Y[:0]), {"x": X[:0], "labels": Y[:0]}, []):
        assert len(convert(raw, where="x")) == 0


def test_every_example_is_in_one_batch() -> None:
    """Guarantee: a shuffled pass takes each once, and a last batch of one joins the one before it where asked."""
    examples = convert((np.arange(10.0), np.arange(10)), where="x")
    torch.manual_seed(0)
    for joins, sizes in ((False, [3, 3, 3, 1]), (True, [3, 3, 4])):
        batches = list(examples.split(3, is_shuffled=True, joins_single=joins))
        assert [len(labels) for _, labels in batches] == sizes
        seen = torch.cat([labels for _, labels in batches]).tolist()
        assert sorted(seen) == list(range(10))
        assert seen != sorted(seen)
    assert [len(labels) for _, labels in convert((X[:1], Y[:1]), where="x").split(3, is_shuffled=True)] == [1]


def test_examples_are_counted_in_any_form() -> None:
    """Guarantee: data that only the user's own loop reads have their number of examples, not of arrays."""
    loader = DataLoader(TensorDataset(torch.ones(12, 2)), batch_size=5)
    for raw in ((X, Y), [X, Y], {"x": X, "labels": Y}, {"x": X}, list(zip(X, Y, strict=True)), loader):
        assert count_examples(raw) == 12
    assert (count_examples(()), count_examples(object())) == (0, 1)


def test_loaded_data_are_examples_when_they_are_asked_for() -> None:
    """Guarantee: wrong data are told at once where examples are needed, and else only where they are asked for."""

    def convert_raw(raw: Any) -> Examples:
        return convert(raw, where="x")

    with pytest.raises(DataError):
        Loaded(object(), convert_raw, is_raw=False, is_kept=True)
    loaded = Loaded(object(), convert_raw, is_raw=True, is_kept=True)
    assert len(loaded) == 1
    with pytest.raises(DataError):
        loaded.read_examples()
    loaded = Loaded((X, Y), convert_raw, is_raw=False, is_kept=False)
    assert (len(loaded), len(loaded.read_examples()), loaded.raw) == (12, 12, None)
