"""What is wrong with features, by device, row and column: NaN, infinity, another width, texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from client_agent.learning.data import DataError, Part, find_fault


def check_features(features: Any, *, part: Part | str = "the data", width: int | None = None) -> None:
    """Nothing where every value is a finite number, and every row has `width` values. Raises DataError."""
    where = f"{part}"
    if (fault := find_fault(features)) is not None:
        raise DataError(f"{where}: {fault}")
    # A single column stands for itself: one number an example.
    array = np.asarray(features)
    found = array.shape[1] if array.ndim > 1 else 1
    if width is not None and found != width:
        raise DataError(f"{where}: every row has {found} columns, expected {width}")
