"""The data that comes with fedlog: the digits' split over devices, and a device's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client_agent.learning.data import DataError, Part

DIGITS = "client_agent.learning.examples:digits"
FOLDER = "client_agent.learning.examples:folder_npz"


def parts(count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    return [Part(plugin=DIGITS, index=index, count=count, seed=seed).read() for index in range(count)]


@pytest.mark.parametrize("count", [1, 10, 200, 1438])
def test_digits_are_spread_disjoint_and_whole(count: int) -> None:
    """Guarantee: every training example is on exactly one device, no device is empty, none is in the test set."""
    from sklearn.datasets import load_digits

    spread = parts(count)
    test = Part(plugin=DIGITS, split="test").read()
    assert all(len(y) > 0 for _, y in spread)
    assert sum(len(y) for _, y in spread) + len(test[1]) == 1797
    rows = np.concatenate([*(x for x, _ in spread), test[0]])
    whole = (load_digits().data / 16).astype(np.float32)
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(whole, axis=0))
    assert sorted(map(bytes, rows)) == sorted(map(bytes, whole))


def test_digits_are_not_alike() -> None:
    """Guarantee: the split is non-IID: a device of 20 sees its two most frequent classes far above one fifth."""
    top_two = [np.sort(np.bincount(y, minlength=10))[-2:].sum() / len(y) for _, y in parts(20)]
    assert np.median(top_two) > 0.45


def test_digits_repeat_by_seed() -> None:
    """Guarantee: the same seed gives the same split, another seed another one, and the test set stays the same."""
    np.testing.assert_array_equal(parts(10)[3][0], parts(10)[3][0])
    assert any(len(a[1]) != len(b[1]) for a, b in zip(parts(10), parts(10, seed=1), strict=True))
    np.testing.assert_array_equal(
        Part(plugin=DIGITS, split="test").read()[0], Part(plugin=DIGITS, split="test", seed=9).read()[0]
    )


def test_more_devices_than_examples_is_an_error() -> None:
    """Guarantee: a fleet larger than the data is told so."""
    with pytest.raises(DataError, match="1438 examples"):
        Part(plugin=DIGITS, index=0, count=1439).read()


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    """Guarantee: a device reads its own data.npz."""
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 2)), y=[0, 1, 1])
    x, y = Part(plugin=FOLDER, folder=tmp_path).read()
    assert (x.shape, y.tolist()) == ((3, 2), [0, 1, 1])


def test_a_folder_without_data_says_what_to_do(tmp_path: Path) -> None:
    """Guarantee: the message names the file and how to write it."""
    with pytest.raises(DataError, match=r"data\.npz.*numpy\.savez"):
        Part(plugin=FOLDER, folder=tmp_path).read()
    with pytest.raises(DataError, match="folder"):
        Part(plugin=FOLDER).read()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 2))}, "y"),
        ({"x": np.array([[object()]]), "y": [0]}, "pickle"),
    ],
)
def test_data_that_does_not_fit(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    """Guarantee: a file that holds something else is refused by name, and a pickle never runs."""
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DataError, match=message):
        Part(plugin=FOLDER, folder=tmp_path).read()
