"""What is wrong with features, by device, row and column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client_agent.learning.data import DataError, Part
from fedlog.data import check_features

GOOD = np.ones((4, 3))


def spoil(row: int, column: int, value: float) -> Any:
    """Good features with one bad value."""
    rows = GOOD.copy()
    rows[row, column] = value
    return rows


BAD = {
    "nan": (spoil(2, 1, np.nan), "row 2, column 1 is nan: clean the data first"),
    "infinity": (spoil(3, 0, -np.inf), "row 3, column 0 is -inf"),
    "several": (np.full((2, 2), np.nan), "row 0, column 0 is nan .4 such values in all."),
    "text": ([[1, 2], [3, "four"]], "row 1, column 1 is the text 'four', and no number"),
    "object": ([[1, 2], [3, None]], "row 1, column 1 is NoneType None, and no number"),
    "ragged": ([[1, 2], [3, 4], [5]], "row 2 has 1 columns, row 0 has 2"),
    "narrow": (GOOD[:, :2], "every row has 2 columns, expected 3"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named_by_device_row_and_column(case: str) -> None:
    """Guarantee: whoever collected the data is told where to look."""
    features, told = BAD[case]
    with pytest.raises(DataError, match=f"device 3 of 40: {told}"):
        check_features(features, part=Part(index=3, count=40), width=3)


def test_good_features_pass() -> None:
    """Guarantee: numbers of every kind are no fault, and neither is no row at all."""
    for features in (GOOD, GOOD.astype(int), GOOD > 0, GOOD[:0], np.array([[1, 2.5]], object)):
        check_features(features)
    check_features(GOOD, width=3)
