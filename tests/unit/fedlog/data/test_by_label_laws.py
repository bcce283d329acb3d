"""Whatever the labels, the devices and the seed: a split loses no example, and has none twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlog.data import dirichlet, exponential, group_id, iid, linear, pathological, shard, square
from fedlog.data.by_size import Indices

LABELS = st.lists(st.integers(0, 6), min_size=12, max_size=120)
DEVICES = st.integers(1, 12)
SEEDS = st.integers(0, 2**40)


def expect_whole(parts: list[Indices], *, labels: list[int], devices: int) -> None:
    """Every index exactly once, in order within a device."""
    assert len(parts) == devices
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert all((np.diff(part) > 0).all() for part in parts)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, devices=DEVICES, seed=SEEDS)
def test_every_index_is_somebody_s_once(labels: list[int], devices: int, seed: int) -> None:
    """Guarantee: no partitioner loses an example or hands it out twice, and equal seeds split alike."""
    for by in (iid, linear, square, exponential, dirichlet):
        parts = by(labels, devices, seed=seed)
        expect_whole(parts, labels=labels, devices=devices)
        assert min(map(len, parts)) >= 1 or by is iid
        assert all(map(np.array_equal, parts, by(labels, devices, seed=seed)))
    expect_whole(shard(labels, devices, shards_per_device=1, seed=seed), labels=labels, devices=devices)
    expect_whole(group_id(range(len(labels)), devices, seed=seed), labels=labels, devices=devices)


@settings(max_examples=60, deadline=None)
@given(labels=LABELS, devices=DEVICES, seed=SEEDS, alpha=st.floats(0.01, 50), share=st.floats(0, 1))
def test_the_minimum_holds_for_every_draw(
    labels: list[int], devices: int, seed: int, alpha: float, share: float
) -> None:
    """Guarantee: each device of a Dirichlet split has its minimum wherever there are enough examples for that."""
    size_min = int(share * (len(labels) // devices))
    parts = dirichlet(labels, devices, alpha=alpha, size_min=size_min, seed=seed)
    expect_whole(parts, labels=labels, devices=devices)
    assert min(map(len, parts)) >= size_min


@settings(max_examples=60, deadline=None)
@given(classes=st.integers(1, 7), devices=DEVICES, seed=SEEDS, data=st.data())
def test_a_device_has_exactly_its_classes(classes: int, devices: int, seed: int, data: st.DataObject) -> None:
    """Guarantee: wherever it is possible, each device has exactly the classes asked for, and together they have all."""
    each = data.draw(st.integers(-(-classes // devices), classes))
    counts = data.draw(st.lists(st.integers(devices, 3 * devices), min_size=classes, max_size=classes))
    labels = np.repeat(np.arange(classes), counts).tolist()
    parts = pathological(labels, devices, classes_per_device=each, seed=seed)
    expect_whole(parts, labels=labels, devices=devices)
    assert {len({labels[place] for place in part}) for part in parts} == {each}
