"""Arrays with a held-out part, and the share of them that one device has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from client_agent.learning.data import DataError, Part
from fedlog.data.by_id import group_id, natural_id
from fedlog.data.by_size import Indices

Columns = tuple[npt.NDArray[Any], ...]
Partitioner = Callable[..., list[Indices]]

TEST_SHARE = 0.2
# No seed of a run: what is held out is the same for all, and scores of two runs can be compared.
TEST_SEED = 20_240_601
_BY_ID = (natural_id, group_id)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Columns side by side, labels last; `ids` says from whom each example of `train` is.

    `split` keeps what it made: all devices of a process ask for the same split.
    """

    name: str
    train: Columns
    test: Columns
    ids: npt.NDArray[Any] | None = None
    _splits: dict[Any, list[Indices]] = field(default_factory=dict, repr=False)

    def share(self, part: Part, by: Partitioner, **arguments: Any) -> Columns:
        """The examples of `part`: what a data callable gives. Raises DataError."""
        # One held-out part for all, however the rest is split.
        if part.split == "test":
            return self.test
        parts = self.split(by, part.count, seed=part.seed, **arguments)
        if not 0 <= part.index < len(parts):
            raise DataError(f"{self.name}: there is no device {part.index} of {part.count}")
        return tuple(column[parts[part.index]] for column in self.train)

    def split(self, by: Partitioner, devices: int, *, seed: int = 0, **arguments: Any) -> list[Indices]:
        """For each device its places in `train`; `by` is called with labels, or with ids. Raises DataError."""
        # Arguments may be lists, as the sizes of `size` are, which are no keys.
        key = (by, devices, seed, repr(sorted(arguments.items())))
        if key not in self._splits:
            self._splits[key] = by(self._choose_column(by), devices, seed=seed, **arguments)
        return self._splits[key]

    def _choose_column(self, by: Partitioner) -> npt.NDArray[Any]:
        if by not in _BY_ID:
            return self.train[-1]
        if self.ids is None:
            raise DataError(f"{self.name} does not say from whom its examples are; take another partitioner than ids")
        return self.ids


def hold_out(name: str, columns: Columns, *, ids: Any = None, test_share: float = TEST_SHARE) -> Dataset:
    """A data set of columns, of which a random share is held out. Raises DataError for columns of other lengths."""
    lengths = {len(column) for column in (*columns, *([] if ids is None else [ids]))}
    if len(lengths) != 1:
        raise DataError(f"{name}: columns of {sorted(lengths)} rows, expected as many in each")
    order = np.random.default_rng(TEST_SEED).permutation(lengths.pop())
    test, train = np.split(order, [round(test_share * len(order))])
    return Dataset(
        name=name,
        train=tuple(column[train] for column in columns),
        test=tuple(column[test] for column in columns),
        ids=None if ids is None else np.asarray(ids)[train],
    )


def standardize(dataset: Dataset, *, columns: tuple[int, ...] = (0,)) -> Dataset:
    """The same with mean 0 and deviation 1 of each feature, as measured in `train`, in float32."""
    train, test = list(dataset.train), list(dataset.test)
    for place in columns:
        # Of the held-out part nothing may be known, not even its mean.
        mean, deviation = dataset.train[place].mean(axis=0), dataset.train[place].std(axis=0)
        scale = np.where(deviation > 0, deviation, 1.0)
        train[place] = ((dataset.train[place] - mean) / scale).astype(np.float32)
        test[place] = ((dataset.test[place] - mean) / scale).astype(np.float32)
    return Dataset(name=dataset.name, train=tuple(train), test=tuple(test), ids=dataset.ids)
