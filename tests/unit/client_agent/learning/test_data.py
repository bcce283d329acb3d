"""Loading of examples by a data plugin, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_agent.learning.data import DataError, Part, load


def test_a_plugin_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a user's module beside them is found, without installing it."""
    (tmp_path / "my_own_data.py").write_text(
        "import numpy as np\ndef give(part):\n    return np.ones((2, 3)), [0, 1]\n"
    )
    monkeypatch.chdir(tmp_path)
    x, _ = load("my_own_data:give", Part())
    assert x.shape == (2, 3)


def test_a_plugin_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Guarantee: an exception inside a user's callable is told with the plugin and the part."""
    (tmp_path / "my_bad_data.py").write_text(
        "def give(part):\n    return 1 / 0\ndef three(part):\n    return 1, 2, 3\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"my_bad_data:give.*ZeroDivisionError"):
        load("my_bad_data:give", Part())
    with pytest.raises(DataError, match="pair"):
        load("my_bad_data:three", Part())
