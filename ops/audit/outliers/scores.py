"""What is measured of an update beside its round, and which devices stand apart in that, round after round.

A robust z-score is 0.6745 (x - median) / MAD, over the members of a round; above 3.5 it is an outlier (Iglewicz and
Hoaglin 1993). One such update says little, because honest devices differ; a device is named for most of its rounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.tensors import Grid

Doubles = npt.NDArray[np.float64]
OUTLYING = 3.5
# In fewer rounds nobody is named.
ROUNDS_MIN = 3
_NORMAL = 0.6745  # the upper quartile of a normal distribution, which is its MAD


@dataclass(frozen=True, slots=True)
class Member:
    """An update of a round: its device, and its clipped vector in grid units."""

    device: str
    vector: Grid


@dataclass(frozen=True, slots=True)
class Measured:
    """One update beside its round: lengths as shares of the clip, cosines from -1 to 1, and how far out it stands.

    `cosine_past` is to what the device sent before, in all its rounds; None in its first. `z` is the largest of the
    z-scores of distance and norm, and of the cosine to the result turned round.
    """

    device: str
    distance: float
    norm: float
    cosine: float
    cosine_past: float | None
    z: float


@dataclass(frozen=True, slots=True)
class Standing:
    """A device over its rounds: means, in how many it stood out, and whether that is most of them."""

    device: str
    rounds: int
    outlying: int
    distance: float
    norm: float
    cosine: float
    cosine_past: float | None
    z: float
    is_outlier: bool

    def to_json(self) -> dict[str, Any]:
        """The same as one JSON object."""
        return asdict(self)


class Scorer:
    """Takes rounds in their order, and remembers the sum of what each device has sent. `clip` is in grid units."""

    def __init__(self, clip: int) -> None:
        self._clip = clip
        self._past: dict[str, Doubles] = {}
        self._found: list[Measured] = []

    def add_round(self, members: Sequence[Member], place: Doubles) -> list[Measured]:
        """Measure the members of a round, whose result was `place`, in grid units of shape (parameters,)."""
        rows = np.array([member.vector for member in members], np.float64)
        distances = np.linalg.norm(rows - place, axis=1) / self._clip
        norms = np.linalg.norm(rows, axis=1) / self._clip
        cosines = np.array([_find_cosine(row, place) for row in rows])
        # The cosine turned round: who points away stands out, and nobody does for agreeing.
        z = np.maximum.reduce([score_robustly(distances), score_robustly(norms), score_robustly(-cosines)])
        found = []
        for number, member in enumerate(members):
            past = self._past.get(member.device)
            cosine_past = None if past is None else _find_cosine(rows[number], past)
            measured = (float(distances[number]), float(norms[number]), float(cosines[number]))
            found.append(Measured(member.device, *measured, cosine_past, float(z[number])))
            self._past[member.device] = rows[number] if past is None else past + rows[number]
        self._found += found
        return found

    def judge(self) -> list[Standing]:
        """Every device, those that stand out in the largest share of their rounds first."""
        return judge(self._found)


def judge(measured: Iterable[Measured]) -> list[Standing]:
    """What was measured of each device over its rounds."""
    by_device: dict[str, list[Measured]] = defaultdict(list)
    for each in measured:
        by_device[each.device].append(each)
    standings = [_stand(device, found) for device, found in by_device.items()]
    return sorted(standings, key=lambda one: (not one.is_outlier, -one.outlying / one.rounds, -one.z, one.device))


def score_robustly(values: Doubles) -> Doubles:
    """0.6745 (x - median) / MAD of each; 0 where it is the median itself, whatever the MAD."""
    apart = values - np.median(values)
    mad = float(np.median(np.abs(apart)))
    # More than half of the members are alike: whoever differs at all would stand out without an end.
    smallest = 1e-9 * max(1.0, float(np.abs(values).max(initial=0.0)))
    return np.asarray(np.where(np.abs(apart) <= smallest, 0.0, _NORMAL * apart / max(mad, smallest)))


def _stand(device: str, found: Sequence[Measured]) -> Standing:
    outlying = sum(each.z > OUTLYING for each in found)
    # A first round has no past, and would count as agreement or as none.
    pasts = [each.cosine_past for each in found if each.cosine_past is not None]
    return Standing(
        device=device,
        rounds=len(found),
        outlying=outlying,
        distance=fmean(each.distance for each in found),
        norm=fmean(each.norm for each in found),
        cosine=fmean(each.cosine for each in found),
        cosine_past=fmean(pasts) if pasts else None,
        z=float(np.median([each.z for each in found])),
        is_outlier=len(found) >= ROUNDS_MIN and 2 * outlying > len(found),
    )


def _find_cosine(one: Doubles, other: Doubles) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0
