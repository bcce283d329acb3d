"""Reading of examples by a data plugin, and how its failure is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_agent.learning.data import DataError, Part, count_classes


def test_a_plugin_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a user's module beside them is found, without installing it."""
    (tmp_path / "my_own_data.py").write_text("def give(part):\n    return [part.index, part.count]\n")
    monkeypatch.chdir(tmp_path)
    assert Part(plugin="my_own_data:give", index=3, count=7).read() == [3, 7]


def test_a_plugin_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guarantee: whatever a user's callable raises is told with the plugin, the part, and the line of their file."""
    (tmp_path / "my_bad_data.py").write_text(
        "import sys\ndef give(part):\n    return 1 / 0\ndef end(part): sys.exit(4)\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"my_bad_data:give' for device 2 of 5: ZeroDivisionError.*my_bad_data\.py:3"):
        Part(plugin="my_bad_data:give", index=2, count=5).read()
    with pytest.raises(DataError, match=r"my_bad_data:end.*ended its process"):
        Part(plugin="my_bad_data:end").read()


def test_no_data_say_where_to_name_some() -> None:
    """Guarantee: where nobody names data, the message says who may."""
    with pytest.raises(DataError, match="--data"):
        Part().read()


@pytest.mark.parametrize(
    ("data", "classes"),
    [
        ((np.zeros((3, 2)), np.array([4, 4, 4])), 1),
        ((np.zeros((3, 2)), [0, 1, -100]), 2),
        ({"x": np.zeros((3, 2)), "labels": np.array([1, 2, 3], np.uint8)}, 3),
        ((np.zeros((0, 2)), np.zeros(0, np.int64)), 0),
        ((np.zeros((3, 2)), np.array([0.5, 1.5, 2.5])), None),
        ((np.zeros((3, 2)), np.zeros((3, 2), np.int64)), None),
        ((np.zeros((3, 2)),), None),
        ({"x": np.zeros(3)}, None),
        ([(0, 1), (2, 3)], None),
    ],
    ids=str,
)
def test_classes_are_counted_where_labels_are_classes(data: Any, classes: int | None) -> None:
    """Guarantee: what is no class is not counted, so that no other kind of data is passed over."""
    assert count_classes(data) == classes
