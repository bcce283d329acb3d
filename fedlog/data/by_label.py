"""Partitioners that look at labels: devices see some classes often, and others never."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from client_agent.learning.data import DataError
from fedlog.data.by_size import Column, Indices, check_counts, fill_up, make_generator

# Labels that differ nearly everywhere are measurements, of which no class can be shared out.
CLASSES_MAX = 10_000


def dirichlet(labels: Column, devices: int, *, alpha: float = 0.3, size_min: int = 1, seed: int = 0) -> list[Indices]:
    """Each class is spread over the devices by a draw from Dirichlet(alpha, …, alpha) (Hsu et al. 2019).

    A small alpha gives devices of few classes, a large one nearly iid. A device with fewer than `size_min` gets more
    from the largest.
    """
    if not 0 < alpha < float("inf"):
        raise DataError(f"alpha = {alpha}: must be above 0")
    classes, codes = _read_classes(labels, devices, by="dirichlet")
    generator = make_generator(seed, devices)
    owners = np.empty(len(codes), np.int64)
    for code in range(len(classes)):
        places = generator.permutation(np.flatnonzero(codes == code))
        shares = generator.dirichlet(np.full(devices, alpha))
        # Rounded at the cuts, so that every example is somebody's.
        cuts = np.floor(np.cumsum(shares)[:-1] * len(places) + 0.5).astype(np.int64)
        for device, part in enumerate(np.split(places, cuts)):
            owners[part] = device
    return fill_up(_collect(owners, devices), size_min, generator=generator)


def shard(labels: Column, devices: int, *, shards_per_device: int = 2, seed: int = 0) -> list[Indices]:
    """Sorted by label, cut into shards of one size, and so many of them dealt to each device (McMahan et al. 2017)."""
    _, codes = _read_classes(labels, devices, by="shard")
    count = devices * shards_per_device
    if shards_per_device < 1 or count > len(codes):
        raise DataError(f"shards_per_device = {shards_per_device}: {count} shards of {len(codes)} examples")
    generator = make_generator(seed, devices)
    # Within a class in a random order, so that a shard says nothing about how the data were collected.
    order = generator.permutation(len(codes))
    shards = np.array_split(order[np.argsort(codes[order], kind="stable")], count)
    dealt = generator.permutation(count).reshape(devices, shards_per_device)
    return [np.sort(np.concatenate([shards[place] for place in places])) for places in dealt]


def pathological(labels: Column, devices: int, *, classes_per_device: int = 2, seed: int = 0) -> list[Indices]:
    """Exactly so many classes for each device, and each class in equal parts for those that have it (Li et al. 2021).

    Raises DataError where the devices together have no room for all classes, or a class has too few examples.
    """
    classes, codes = _read_classes(labels, devices, by="pathological")
    if not 1 <= classes_per_device <= len(classes) or devices * classes_per_device < len(classes):
        raise DataError(
            f"classes_per_device = {classes_per_device}: {devices} devices cannot have all of {len(classes)} classes so"
        )
    generator = make_generator(seed, devices)
    takers = _choose_takers(len(classes), devices, each=classes_per_device, generator=generator)
    parts: list[list[Indices]] = [[] for _ in range(devices)]
    for code, chosen in enumerate(takers):
        places = generator.permutation(np.flatnonzero(codes == code))
        if len(places) < len(chosen):
            raise DataError(
                f"pathological: {len(places)} examples of class {classes[code].item()!r} for {len(chosen)} devices"
            )
        for device, part in zip(chosen, np.array_split(places, len(chosen)), strict=True):
            parts[device].append(part)
    return [np.sort(np.concatenate(own)) for own in parts]


def _choose_takers(count: int, devices: int, *, each: int, generator: np.random.Generator) -> list[list[int]]:
    """The devices of each class: each device takes those that the fewest have so far."""
    takers: list[list[int]] = [[] for _ in range(count)]
    for device in range(devices):
        # Fewest first: a class that nobody has would be lost, and with it its examples.
        order = sorted(generator.permutation(count).tolist(), key=lambda code: len(takers[code]))
        for code in order[:each]:
            takers[code].append(device)
    return takers


def _read_classes(labels: Column, devices: int, *, by: str) -> tuple[npt.NDArray[np.generic], Indices]:
    """The classes in order, and the place of each example's among them. Raises DataError for measurements."""
    column = np.asarray(labels)
    check_counts(column, devices)
    if column.ndim != 1:
        raise DataError(f"{by}: labels of shape {column.shape}, expected one an example")
    if column.dtype.kind == "f" and not np.array_equal(column, np.rint(column)):
        raise DataError(f"{by}: these labels are measurements and no classes; take iid, size, or group_id")
    # By rank, so that labels may be texts, or numbers with gaps.
    classes, codes = np.unique(column, return_inverse=True)
    if len(classes) > CLASSES_MAX:
        raise DataError(f"{by}: {len(classes)} classes, at most {CLASSES_MAX}; take natural_id for ids")
    return classes, codes.astype(np.int64)


def _collect(owners: Indices, devices: int) -> list[Indices]:
    order = np.argsort(owners, kind="stable")
    return np.split(order, np.cumsum(np.bincount(owners, minlength=devices))[:-1])
