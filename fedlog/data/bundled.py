"""The data sets that scikit-learn brings along: small, real, and on every machine that has fedlog."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from sklearn import datasets

from fedlog.data.dataset import Dataset, hold_out, standardize


@cache
def digits() -> Dataset:
    """1,797 handwritten digits of 8 × 8 pixels: features from 0 to 1 of shape (n, 64), labels 0 to 9."""
    # Pixels count from 0 to 16; scaled they need no other rate than images elsewhere.
    x, y = datasets.load_digits(return_X_y=True)
    return hold_out("digits", ((x / 16).astype(np.float32), y.astype(np.int64)))


@cache
def breast_cancer() -> Dataset:
    """569 tumours, 30 features each, standardised; label 1 is benign."""
    return _load_classes("breast_cancer", datasets.load_breast_cancer)


@cache
def wine() -> Dataset:
    """178 wines of three growers, 13 features each, standardised."""
    return _load_classes("wine", datasets.load_wine)


@cache
def iris() -> Dataset:
    """150 flowers of three kinds, 4 features each, standardised."""
    return _load_classes("iris", datasets.load_iris)


@cache
def diabetes() -> Dataset:
    """442 patients, 10 features, and how the disease went on after a year as the target; both standardised."""
    x, y = datasets.load_diabetes(return_X_y=True)
    # The target in its own unit, up to 346, would ask for another learning rate than all other sets.
    return standardize(hold_out("diabetes", (x, y)), columns=(0, 1))


def _load_classes(name: str, load: Callable[..., Any]) -> Dataset:
    x, y = load(return_X_y=True)
    return standardize(hold_out(name, (x, y.astype(np.int64))))
