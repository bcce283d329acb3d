"""Partitioners that look at no label: sizes as promised, and the same split in every process."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from client_agent.learning.data import DataError
from fedlog.data import dirichlet, exponential, iid, linear, pathological, shard, size, square
from fedlog.data.dataset import Partitioner

LABELS = np.arange(1000) % 7

# What IidPartitioner, LinearPartitioner, SquarePartitioner and ExponentialPartitioner of flwr-datasets 0.6.1 give for
# 1,000 examples and 4 or 7 partitions.
FLOWERS_SIZES = {
    iid: ([250] * 4, [143] * 6 + [142]),
    linear: ([100, 200, 300, 400], [35, 71, 107, 142, 178, 214, 253]),
    square: ([33, 133, 300, 534], [7, 28, 64, 114, 178, 257, 352]),
    exponential: ([32, 87, 236, 645], [1, 4, 11, 31, 85, 232, 636]),
}

# The sha256 of the splits of LABELS over 5 devices with seed 1, as numpy 2.4 drew them when they were written.
DIGESTS: list[tuple[Partitioner, dict[str, Any], str]] = [
    (iid, {}, "5472b3ebf020258a"),
    (dirichlet, {"alpha": 0.5, "size_min": 10}, "406be230a1e23bf4"),
    (shard, {}, "ba27b150c041227c"),
    (pathological, {}, "008455c7a358e50d"),
    (size, {"sizes": [10, 20, 30, 40, 50]}, "fd9fc1f1dff9e660"),
    (linear, {}, "9e07b2da1e9cb53a"),
    (square, {}, "6edc46bd32712eb7"),
    (exponential, {}, "ec1dc0dbccccf0c7"),
]


@pytest.mark.parametrize("by", FLOWERS_SIZES, ids=lambda by: by.__name__)
def test_a_name_means_what_it_means_in_flower(by: Partitioner) -> None:
    """Guarantee: whoever comes from flwr-datasets gets partitions of the same sizes under the same name."""
    for devices, expected in zip((4, 7), FLOWERS_SIZES[by], strict=True):
        assert [len(part) for part in by(LABELS, devices)] == expected


@pytest.mark.parametrize(("by", "arguments", "digest"), DIGESTS, ids=[by.__name__ for by, _, _ in DIGESTS])
def test_a_seed_gives_the_recorded_split(by: Partitioner, arguments: dict[str, Any], digest: str) -> None:
    """Guarantee: a seed means the same split in every process and release; another seed means another."""

    def hash_split(seed: int) -> str:
        parts = by(LABELS, 5, seed=seed, **arguments)
        return hashlib.sha256(b"".join(part.astype("<i8").tobytes() + b"|" for part in parts)).hexdigest()[:16]

    assert hash_split(1) == digest
    assert hash_split(2) != digest


def test_sizes_that_cannot_be_are_refused() -> None:
    """Guarantee: more than there is, a negative size or seed, and no devices are told before anything is split."""
    assert [len(part) for part in size(LABELS, 3, sizes=20)] == [20, 20, 20]
    for sizes, devices, told in (
        ([600, 600], 2, "at most 1000, not 1200"),
        ([-1, 5], 2, "0 or more"),
        ([1, 2, 3], 2, "3 sizes for 2 devices"),
    ):
        with pytest.raises(DataError, match=told):
            size(LABELS, devices, sizes=sizes)
    with pytest.raises(DataError, match="0 devices: at least 1"):
        iid(LABELS, 0)
    with pytest.raises(DataError, match="seed -1"):
        iid(LABELS, 3, seed=-1)
    with pytest.raises(DataError, match="size_min = 1: 3 examples are too few for 5 devices"):
        linear([1, 2, 3], 5)


def test_very_many_devices_have_exponential_sizes() -> None:
    """Guarantee: the exponent of a thousand devices is beyond float64, and their shares are not."""
    sizes = [len(part) for part in exponential(np.zeros(5000), 1000)]
    assert (min(sizes), sum(sizes)) == (1, 5000)
    assert max(sizes) == sizes[-1]
