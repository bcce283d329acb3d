"""Partitioners that look at no label: how many examples each device has; which ones, the seed draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from client_agent.learning.data import DataError

Indices = npt.NDArray[np.int64]
Column = npt.ArrayLike


def iid(labels: Column, devices: int, *, seed: int = 0) -> list[Indices]:
    """Drawn at random, and as many for each as for any other, give or take one."""
    count = check_counts(labels, devices)
    return [np.sort(part) for part in np.array_split(draw_order(count, devices, seed=seed), devices)]


def size(labels: Column, devices: int, *, sizes: int | Sequence[int], seed: int = 0) -> list[Indices]:
    """Exactly so many examples for each device, or for all of them alike; what is left over is nobody's."""
    count = check_counts(labels, devices)
    wanted = [sizes] * devices if isinstance(sizes, int) else [int(one) for one in sizes]
    if len(wanted) != devices:
        raise DataError(f"size: {len(wanted)} sizes for {devices} devices")
    if min(wanted) < 0 or sum(wanted) > count:
        raise DataError(f"size: the sizes must be 0 or more and sum up to at most {count}, not {sum(wanted)}")
    # Drawn before it is cut: rows of a file often stand in an order that means something.
    order = draw_order(count, devices, seed=seed)
    return _cut(order[: sum(wanted)], np.array(wanted))


def linear(labels: Column, devices: int, *, size_min: int = 1, seed: int = 0) -> list[Indices]:
    """Device i of 0, 1, 2, … has i + 1 units of the examples."""
    return _deal(labels, devices, units=np.asarray, size_min=size_min, seed=seed)


def square(labels: Column, devices: int, *, size_min: int = 1, seed: int = 0) -> list[Indices]:
    """Device i has (i + 1)² units."""
    return _deal(labels, devices, units=np.square, size_min=size_min, seed=seed)


def exponential(labels: Column, devices: int, *, size_min: int = 1, seed: int = 0) -> list[Indices]:
    """Device i has exp(i + 1) units: the last has most, and without `size_min` many have nothing."""
    return _deal(labels, devices, units=np.exp, size_min=size_min, seed=seed)


def check_counts(labels: Column, devices: int) -> int:
    """How many examples there are. Raises DataError for devices that nobody can serve."""
    count = len(np.asarray(labels))
    if devices < 1:
        raise DataError(f"{devices} devices: at least 1 is needed")
    return count


def draw_order(count: int, devices: int, *, seed: int) -> Indices:
    """All indices in an order that seed and number of devices decide."""
    return make_generator(seed, devices).permutation(count)


def make_generator(seed: int, devices: int) -> np.random.Generator:
    """The same draws in every process. Raises DataError for a negative seed."""
    if seed < 0:
        raise DataError(f"seed {seed}: must be 0 or more")
    # PCG64 by name: what default_rng stands for may change with a release of numpy, and a split must not.
    return np.random.Generator(np.random.PCG64([seed, devices]))


def fill_up(parts: list[Indices], size_min: int, *, generator: np.random.Generator) -> list[Indices]:
    """The same with at least `size_min` for each device, out of the largest. Raises DataError where that cannot be."""
    sizes = np.array([len(part) for part in parts])
    if size_min * len(parts) > sizes.sum():
        raise DataError(
            f"size_min = {size_min}: {sizes.sum()} examples are too few for {len(parts)} devices; take fewer devices"
        )
    for poor in np.flatnonzero(sizes < size_min):
        while (lacking := size_min - sizes[poor]) > 0:
            rich = int(sizes.argmax())
            # Never below the minimum itself, or the giver would have to be given to.
            moved = generator.permutation(len(parts[rich]))[: min(lacking, sizes[rich] - size_min)]
            parts[poor] = np.concatenate([parts[poor], parts[rich][moved]])
            parts[rich] = np.delete(parts[rich], moved)
            sizes[poor], sizes[rich] = len(parts[poor]), len(parts[rich])
    return [np.sort(part) for part in parts]


def _deal(labels: Column, devices: int, *, units: Callable[[Any], Any], size_min: int, seed: int) -> list[Indices]:
    count = check_counts(labels, devices)
    places = np.arange(1.0, devices + 1)
    # Relative to the largest: exp(1000) is beyond float64, and only shares are asked for.
    weights = np.exp(places - devices) if units is np.exp else units(places)
    sizes = np.floor(weights / weights.sum() * count).astype(np.int64)
    # What rounding leaves over is the largest's.
    sizes[-1] += count - sizes.sum()
    parts = _cut(draw_order(count, devices, seed=seed), sizes)
    return fill_up(parts, size_min, generator=make_generator(seed, devices))


def _cut(order: Indices, sizes: Indices) -> list[Indices]:
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]
