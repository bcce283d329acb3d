"""A data set with a held-out part, and what a data callable makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from client_agent.learning.data import DataError, Part
from fedlog.data import Dataset, digits, dirichlet, group_id, iid
from fedlog.data.dataset import hold_out, standardize


def test_a_data_callable_gives_a_device_its_share() -> None:
    """Guarantee: all devices together have every example of `train` once, and the evaluator what is held out."""
    own = [digits().share(Part(index=index, count=20, seed=3), dirichlet, alpha=0.1) for index in range(20)]
    assert sum(len(labels) for _, labels in own) == len(digits().train[1]) == 1438
    assert np.array_equal(np.sort(np.concatenate([labels for _, labels in own])), np.sort(digits().train[1]))
    held_out = digits().share(Part(split="test"), dirichlet)
    assert [len(column) for column in held_out] == [359, 359]


def test_the_seed_of_the_split_is_the_part_s() -> None:
    """Guarantee: another split needs another seed and no other code; equal seeds and arguments are computed once."""
    first, again, other = (digits().share(Part(count=20, seed=seed), iid)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert digits().split(iid, 20, seed=1) is digits().split(iid, 20, seed=1)


def test_what_is_held_out_never_trains() -> None:
    """Guarantee: rows of both parts are each row once, and ids stay with their rows."""
    rows = np.arange(50)
    found = hold_out("mine", (rows, rows * 2), ids=rows * 3)
    assert sorted([*found.train[0], *found.test[0]]) == list(rows)
    assert np.array_equal(found.train[0] * 3, found.ids)
    with pytest.raises(DataError, match="columns of"):
        hold_out("mine", (rows, rows[1:]))


def test_the_scale_is_measured_without_the_held_out_rows() -> None:
    """Guarantee: an outlier among the held-out rows changes nothing in training; a constant column stays finite."""
    train, test = np.array([[1.0, 5], [3, 5]]), np.array([[1000.0, 5]])
    scaled = standardize(Dataset(name="mine", train=(train,), test=(test,)))
    assert np.array_equal(scaled.train[0], [[-1, 0], [1, 0]])
    assert np.array_equal(scaled.test[0], [[998, 0]])


def test_a_share_that_is_not_there_is_told() -> None:
    """Guarantee: a device beyond the split, and ids that a set does not have, are named."""
    with pytest.raises(DataError, match="digits: there is no device 9 of 5"):
        digits().share(Part(index=9, count=5), iid)
    with pytest.raises(DataError, match="digits does not say from whom"):
        digits().share(Part(count=5), group_id)
