"""Partitioners by whom an example comes from: a speaker, a patient, a module of a program."""

from __future__ import annotations

import numpy as np

from client_agent.learning.data import DataError
from fedlog.data.by_size import Column, Indices, check_counts


def natural_id(ids: Column, devices: int, *, seed: int = 0) -> list[Indices]:
    """One device an id, in the order in which the ids first occur. Raises DataError for another number of devices."""
    codes, count = _read_ids(ids)
    check_counts(codes, devices)
    if devices != count:
        raise DataError(f"natural_id: {count} ids for {devices} devices; take --devices {count}, or group_id")
    # By id alone nothing is drawn; the seed stands here because every partitioner takes one.
    del seed
    return [np.flatnonzero(codes == code) for code in range(count)]


def group_id(ids: Column, devices: int, *, seed: int = 0) -> list[Indices]:
    """Ids that stand side by side go to one device, about as many to each. Raises DataError for too few ids."""
    codes, count = _read_ids(ids)
    check_counts(codes, devices)
    if devices > count:
        raise DataError(f"group_id: {count} ids for {devices} devices; take at most {count} devices")
    del seed
    # Side by side: neighbours in a file often belong together, as patients of one hospital do.
    groups = np.array_split(np.arange(count), devices)
    return [np.flatnonzero(np.isin(codes, group)) for group in groups]


def _read_ids(ids: Column) -> tuple[Indices, int]:
    """The number of each example's id in the order of first occurrence, and how many ids there are."""
    column = np.asarray(ids)
    if column.ndim != 1:
        raise DataError(f"ids of shape {column.shape}, expected one an example")
    _, first, codes = np.unique(column, return_index=True, return_inverse=True)
    # numpy sorts ids; people expect device 0 to be the first that they see.
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first, kind="stable")] = np.arange(len(first))
    return ranks[codes], len(first)
