"""Partitioners that look at labels: which classes a device has."""

from __future__ import annotations

import numpy as np
import pytest

from client_agent.learning.data import DataError
from fedlog.data import dirichlet, pathological, shard

LABELS = np.repeat(np.arange(10), 60)


def test_alpha_decides_how_uneven_devices_are() -> None:
    """Guarantee: a small alpha gives devices of few classes, a large one devices that are alike."""

    def largest_share(alpha: float) -> float:
        parts = dirichlet(LABELS, 10, alpha=alpha, size_min=5)
        return float(np.mean([np.bincount(LABELS[part]).max() / len(part) for part in parts]))

    assert largest_share(0.05) > 0.6
    assert largest_share(1000.0) < 0.2


def test_a_device_below_the_minimum_is_filled_up() -> None:
    """Guarantee: `size_min` holds where the draw alone leaves devices without anything."""
    assert min(len(part) for part in dirichlet(LABELS, 40, alpha=0.02, size_min=0)) == 0
    parts = dirichlet(LABELS, 40, alpha=0.02, size_min=15)
    assert {len(part) for part in parts} == {15}
    with pytest.raises(DataError, match="size_min = 16: 600 examples are too few for 40 devices"):
        dirichlet(LABELS, 40, size_min=16)


def test_each_device_has_as_many_classes_as_asked_for() -> None:
    """Guarantee: with `pathological` a device has exactly that many classes, and no class is left out."""
    for devices, each in ((5, 2), (7, 3), (20, 1), (3, 10)):
        parts = pathological(LABELS, devices, classes_per_device=each)
        assert {len(np.unique(LABELS[part])) for part in parts} == {each}
        assert len(np.unique(LABELS[np.concatenate(parts)])) == 10


def test_a_device_has_its_shards_and_no_more() -> None:
    """Guarantee: two shards a device give all devices as many examples, of at most four classes (McMahan et al.)."""
    parts = shard(LABELS, 10, shards_per_device=2)
    assert {len(part) for part in parts} == {60}
    assert max(len(np.unique(LABELS[part])) for part in parts) <= 4


def test_what_cannot_be_split_by_label_is_told() -> None:
    """Guarantee: measurements, too few classes or examples, and senseless arguments have their own messages."""
    with pytest.raises(DataError, match="measurements and no classes; take iid"):
        dirichlet(np.linspace(0, 1, 50), 5)
    with pytest.raises(DataError, match="labels of shape"):
        dirichlet(np.zeros((5, 2)), 5)
    with pytest.raises(DataError, match="4 devices cannot have all of 10 classes"):
        pathological(LABELS, 4, classes_per_device=2)
    with pytest.raises(DataError, match="1 examples of class 7 for 2 devices"):
        pathological([7], 2, classes_per_device=1)
    with pytest.raises(DataError, match="700 shards of 600 examples"):
        shard(LABELS, 350)
    with pytest.raises(DataError, match="alpha = 0"):
        dirichlet(LABELS, 5, alpha=0)


def test_labels_may_be_texts() -> None:
    """Guarantee: classes are whatever can be told apart."""
    names = np.array(["cat", "dog", "owl"])[np.arange(30) % 3]
    parts = pathological(names, 3, classes_per_device=1)
    assert sorted(str(names[part][0]) for part in parts) == ["cat", "dog", "owl"]
