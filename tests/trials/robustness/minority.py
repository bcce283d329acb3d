"""Whose updates count: how far each moves the result of a rule, as a share of how far it moves the mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from schemas.tensors import Grid

# Who is kept by less than this no longer counts.
SILENT = 0.1


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a round: its device, its weight, and its clipped vector in grid units."""

    device: int
    weight: int
    vector: Grid


class Members:
    """`robust.Members` in memory."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        self.vectors = np.array([member.vector for member in members], np.int64)
        self.weights = np.array([member.weight for member in members], np.int64)
        self.parameters = self.vectors.shape[1]

    def pieces(self) -> Iterator[tuple[slice, Grid]]:
        """All in one piece."""
        yield slice(0, self.parameters), self.vectors

    def replace(self, place: int, vector: Grid) -> Members:
        """The same with another vector of one of them."""
        found = [*self.members]
        found[place] = Member(found[place].device, found[place].weight, vector)
        return Members(found)


def measure_kept(members: Members, total: Callable[[Members], Grid]) -> list[tuple[int, float]]:
    """For each member its device and what is kept of its update, 1 as in the mean, 0 as if the others had sent it.

    Its update is replaced by the mean of the others; along the way that the mean moves by that, how far moves the rule?
    """
    whole = total(members).astype(np.float64)
    found = []
    for place, member in enumerate(members.members):
        others = np.delete(members.weights, place) @ np.delete(members.vectors, place, axis=0)
        mean = others / np.delete(members.weights, place).sum()
        way = member.weight * (member.vector - np.rint(mean))
        length = float(way @ way)
        if length:
            moved = whole - total(members.replace(place, np.rint(mean).astype(np.int64)))
            found.append((member.device, float(moved @ way) / length))
    return found


def summarize_kept(
    kept: Sequence[tuple[int, float]], *, hostile: Collection[int], minority: Collection[int]
) -> dict[str, Any]:
    """The mean of it for attackers, majority and minority, and the honest devices of which next to nothing is kept."""
    by_device: dict[int, list[float]] = defaultdict(list)
    for device, share in kept:
        by_device[device].append(share)
    means = {device: fmean(shares) for device, shares in sorted(by_device.items())}
    honest = {device: share for device, share in means.items() if device not in hostile}
    groups = {
        "kept_majority": [share for device, share in honest.items() if device not in minority],
        "kept_minority": [share for device, share in honest.items() if device in minority],
        "kept_attackers": [share for device, share in means.items() if device in hostile],
    }
    told: dict[str, Any] = {name: round(fmean(shares), 3) if shares else None for name, shares in groups.items()}
    silent = sorted(device for device, share in honest.items() if share < SILENT)
    return {**told, "silent": silent, "silent_of": len(honest)}
