"""The sets of scikit-learn: what a model is given."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from client_agent.learning.data import Part
from client_agent.learning.examples import digits as as_in_policies
from fedlog.data import Dataset, breast_cancer, diabetes, digits, iris, wine

SETS = [
    (digits, 1797, 64, 10),
    (breast_cancer, 569, 30, 2),
    (wine, 178, 13, 3),
    (iris, 150, 4, 3),
    (diabetes, 442, 10, 0),
]


@pytest.mark.parametrize(("load", "rows", "width", "classes"), SETS, ids=[load.__name__ for load, *_ in SETS])
def test_a_set_is_whole_and_ready(load: Callable[[], Dataset], rows: int, width: int, classes: int) -> None:
    """Guarantee: float32 features of about one size, every row once, labels as classes or as a scaled measure."""
    (x, y), (x_test, y_test) = load().train, load().test
    assert (len(x) + len(x_test), x.shape[1], x.dtype) == (rows, width, np.float32)
    assert np.abs(x.mean()) < 0.5
    if classes:
        assert list(np.unique(y)) == list(range(classes))
        assert y.dtype == y_test.dtype == np.int64
    else:
        assert (round(float(y.mean()), 3), round(float(y.std()), 3), y.dtype) == (0.0, 1.0, np.float32)


def test_the_digits_are_those_of_policies() -> None:
    """Guarantee: scores on these digits can be compared with those of the data that policies name."""
    for mine, theirs in zip(digits().test, as_in_policies(Part(split="test")), strict=True):
        assert np.array_equal(mine, theirs)
