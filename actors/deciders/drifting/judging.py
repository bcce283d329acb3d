"""What the distances of a version lead to: what crosses its bound, what goes on, and what is over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from msgspec import UNSET, UnsetType

from actors.deciders.drifting.standing import Asked, name_found
from schemas.events import DriftEnded, DriftEvent, DriftFound, DriftKind, DriftMeasure
from schemas.identifiers import Cohort
from schemas.policy import Drift

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far the answers of a cohort, or of all (""), are from what they are compared with, in millionths."""

    kind: DriftKind
    cohort: Cohort
    measure: DriftMeasure
    value: int
    by_chance: int


def judge_drift(task: Asked, version: int, *, distances: Iterable[Distance] | UnsetType) -> list[DriftEvent]:
    """What is said with a version. Of what could not be compared nothing is, and what stands of it goes on standing."""
    asked = task.created.policy.drift
    if asked is UNSET or task.drifts is UNSET or distances is UNSET:
        return []
    return [*_judge(task, version, asked=asked, distances=distances)]


def _judge(task: Asked, version: int, *, asked: Drift, distances: Iterable[Distance]) -> Iterator[DriftEvent]:
    assert task.drifts is not UNSET
    for distance in distances:
        bound = find_bound(asked, distance)
        if bound is None:
            continue
        stands = task.drifts.found.get(name_found(distance.kind, distance.cohort, measure=distance.measure))
        # Beyond the bound, or it is no matter; beyond chance, or it is no news.
        is_found = distance.value >= bound and distance.value > distance.by_chance
        if not is_found and stands is None:
            continue
        kind = DriftFound if is_found else DriftEnded
        reference, reference_version = _name_reference(task, asked, distance=distance, version=version)
        yield kind(
            task=task.created.task,
            version=version,
            since=version if stands is None else stands.since,
            statistic=asked.statistic,
            cohort=distance.cohort,
            kind=distance.kind,
            measure=distance.measure,
            value=distance.value,
            bound=bound,
            by_chance=distance.by_chance,
            reference=reference,
            reference_version=reference_version,
        )


def find_bound(asked: Drift, distance: Distance) -> int | None:
    """The policy's bound of a distance in millionths; None where it has none."""
    match distance.kind, distance.measure:
        case "drift", "psi":
            bound: float | UnsetType = asked.psi_max
        case "drift", "ks":
            bound = asked.ks_max
        case "skew", "psi":
            bound = asked.skew_psi_max
        case _:
            bound = asked.skew_ks_max
    return None if bound is UNSET else round(bound * _MILLION)


def _name_reference(task: Asked, asked: Drift, *, distance: Distance, version: int) -> tuple[str, int]:
    """The task and version that it was compared with."""
    if distance.kind == "skew":
        return task.created.task, version
    reference = task.created.reference
    return (task.created.task, asked.version) if reference is UNSET else (reference.task, reference.version)
