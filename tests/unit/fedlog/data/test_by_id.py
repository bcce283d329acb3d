"""Partitioners by whom an example comes from."""

from __future__ import annotations

import numpy as np
import pytest

from client_agent.learning.data import DataError
from fedlog.data import group_id, natural_id

IDS = np.array([f"u{(place * place) % 11}" for place in range(1000)])


def test_ids_are_grouped_as_in_flower() -> None:
    """Guarantee: NaturalIdPartitioner and GroupedNaturalIdPartitioner(group_size=2) of flwr-datasets 0.6.1 agree."""
    natural = natural_id(IDS, 6)
    assert [len(part) for part in natural] == [91, 181, 182, 182, 182, 182]
    assert [len(part) for part in group_id(IDS, 3)] == [272, 364, 364]
    # In the order in which they first occur, each id whole.
    assert [{str(one) for one in IDS[part]} for part in natural] == [
        {one} for one in ("u0", "u1", "u4", "u9", "u5", "u3")
    ]


def test_devices_that_ids_cannot_serve_are_told() -> None:
    """Guarantee: the message says how many devices would do."""
    with pytest.raises(DataError, match="6 ids for 5 devices; take --devices 6, or group_id"):
        natural_id(IDS, 5)
    with pytest.raises(DataError, match="at most 6 devices"):
        group_id(IDS, 7)
    with pytest.raises(DataError, match="ids of shape"):
        natural_id(IDS.reshape(-1, 2), 6)
