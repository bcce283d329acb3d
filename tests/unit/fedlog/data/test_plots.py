"""The labels of each device, as a person sees them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from client_agent.learning.data import DataError
from fedlog.data import draw_labels, format_labels, iid

LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
PARTS = [np.array([0, 1, 2, 3]), np.array([4, 6]), np.array([], np.int64)]


def test_a_line_a_device_shows_its_classes() -> None:
    """Guarantee: a device of one class is dark there and empty elsewhere; a device without examples has a line too."""
    assert format_labels(LABELS, PARTS).splitlines() == [
        "           0  1  2  examples",
        "device 0  ██        4",
        "device 1     ▒▒ ▒▒  2",
        "device 2            0",
    ]


def test_a_screen_is_not_flooded() -> None:
    """Guarantee: of very many devices the first are shown, and very many classes are refused by number."""
    many = format_labels(np.arange(500) % 3, iid(np.arange(500), 100)).splitlines()
    assert many[-1] == "… and 40 more devices"
    with pytest.raises(DataError, match="500 different labels"):
        format_labels(np.arange(500), iid(np.arange(500), 5))


def test_the_figure_comes_from_matplotlib_or_says_so(tmp_path: Path) -> None:
    """Guarantee: without matplotlib the message says how to get it; with it the file holds a picture."""
    if importlib.util.find_spec("matplotlib") is None:
        with pytest.raises(DataError, match="draw_labels needs the package matplotlib"):
            draw_labels(LABELS, PARTS)
        return
    draw_labels(LABELS, PARTS, path=tmp_path / "labels.png")
    assert (tmp_path / "labels.png").read_bytes().startswith(b"\x89PNG")
