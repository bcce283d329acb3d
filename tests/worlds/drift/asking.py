"""Measure tasks whose answers are watched, and histograms as devices would answer them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.deciders.arithmetic.drifting import Histogram, read_counts
from actors.deciders.drifting.judging import Distance
from schemas.events import DriftFound
from schemas.policy import Policy
from tests.survey import measuring_policy
from tests.worlds.builders import TASK
from tests.worlds.federation import Federation

DEVICES, BINS = 16, 4
COHORTS = ("lab", "home")
Answer = npt.NDArray[np.float32]


def drift_policy(*, cohorts: Sequence[str] = (), drift: dict[str, Any] | None = None, **sections: Any) -> Policy:
    """Rounds of sixteen that answer shares of four bins; each version is beside the first."""
    rows = (len(cohorts),) if cohorts else ()
    statistics = {"histogram": {"bound": 1.0, "shape": (*rows, BINS)}}
    if cohorts:
        statistics["devices"] = {"bound": 1.0, "shape": rows}
    plain: dict[str, Any] = {
        "measure": {"statistics": statistics, "release": "sum"},
        "drift": {"cohorts": tuple(cohorts), **(drift or {})},
        "selection": {"devices_expected": 2 * DEVICES, "concurrency": 2 * DEVICES},
        # Of each cohort sixteen: fewer could not tell anything.
        "aggregation": {"updates_per_round": DEVICES * max(1, len(cohorts))},
        "stop": {"versions_max": 9},
    }
    sections["measure"] = {**plain["measure"], **sections.get("measure", {})}
    return measuring_policy(**{**plain, **sections})


def answer(place: int, *, cohort: str = "") -> Answer:
    """What a device answers all of whose examples are in one bin."""
    shares = np.zeros((len(COHORTS) if cohort else 1, BINS), np.float32)
    devices = np.zeros(len(COHORTS) if cohort else 0, np.float32)
    row = COHORTS.index(cohort) if cohort else 0
    shares[row, place] = 1
    devices[row : row + 1] = 1
    return np.concatenate([shares.reshape(-1), devices])


def ask(world: Federation, answers: Sequence[Answer]) -> None:
    """One version of these answers."""
    world.round_of({f"d{number}": each for number, each in enumerate(answers)})


def all_in(*places: int) -> list[Answer]:
    """Sixteen answers, which take these bins in turn."""
    return [answer(places[number % len(places)]) for number in range(DEVICES)]


def in_cohorts(places: Mapping[str, Sequence[int]]) -> list[Answer]:
    """Sixteen answers of each cohort."""
    return [answer(bins[n % len(bins)], cohort=cohort) for cohort, bins in places.items() for n in range(DEVICES)]


def histogram(counts: Sequence[float], devices: float = 100, noise: float = 0.0) -> Histogram:
    """What is compared."""
    return Histogram(counts=read_counts(counts), devices=Decimal(devices), noise=Decimal(noise))


def distance(value: int, by_chance: int = 0, **changes: Any) -> Distance:
    """The PSI of all devices to the reference, in millionths."""
    plain: dict[str, Any] = {"kind": "drift", "cohort": "", "measure": "psi"}
    return Distance(**{**plain, **changes}, value=value, by_chance=by_chance)


def drift_found(version: int = 3, value: int = 300_000, *, since: int | None = None, **changes: Any) -> DriftFound:
    """What the aggregator says of it."""
    plain: dict[str, Any] = {
        "task": TASK,
        "version": version,
        "since": version if since is None else since,
        "statistic": "histogram",
        "cohort": "",
        "kind": "drift",
        "measure": "psi",
        "value": value,
        "bound": 200_000,
        "by_chance": 0,
        "reference": TASK,
        "reference_version": 1,
    }
    return DriftFound(**{**plain, **changes})
