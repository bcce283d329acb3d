"""The distances of a version of a measure task: from its reference, and of each cohort from all others.

Computed from what is published alone, and so by anybody: the aggregator before it publishes, a replay afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import structlog
from msgspec import UNSET, UnsetType

from actors.deciders.aggregator_state import Task
from actors.deciders.arithmetic.drifting import Distances, Histogram, compare, find_noise, join, read_counts
from actors.deciders.arithmetic.statistics import split
from actors.deciders.drifting.judging import Distance
from actors.effects.aggregator.bodies import BodyLost
from actors.effects.aggregator.summation import Fetch
from schemas.events import DriftKind, TaskCreated
from schemas.policy import Drift
from schemas.tensors import BodyError, Floats, unpack

logger = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A version of a measure task: its vector, shape (parameters,), of how many devices it is, and its noise.

    `noise`: the standard deviation in each count of the histogram's sum.
    """

    vector: Floats
    members: int
    noise: Decimal


def measure_drift(task: Task, vector: Floats, *, members: int, fetch: Fetch) -> tuple[Distance, ...] | UnsetType:
    """The distances of the version that comes next; unset where the policy does not ask. Raises LogUnavailable."""
    asked = task.created.policy.drift
    if asked is UNSET or task.drifts is UNSET:
        return UNSET
    try:
        reference = read_reference(task, asked, fetch=fetch)
    except (BodyLost, BodyError) as error:
        # Nothing is said of what cannot be compared; what stands goes on standing.
        logger.error("drift_reference_unreadable", task=task.created.task, reason=str(error))
        reference = None
    noise = find_noise(task.created.policy, asked.statistic)
    answers = Answers(vector=vector, members=members, noise=noise)
    return tuple(list_distances(task.created, asked, answers=answers, reference=reference))


def read_reference(task: Task, asked: Drift, *, fetch: Fetch) -> Answers | None:
    """What versions are compared with; None before it is there. Raises BodyLost, BodyError."""
    created, given = task.created, task.created.reference
    held = given if given is not UNSET else task.drifts.reference if task.drifts is not UNSET else None
    if held is None:
        return None
    vector = unpack(fetch(held.model), held.model.codec, count=created.parameters)
    noise = find_noise(created.policy, asked.statistic) if given is UNSET else Decimal(given.noise)
    return Answers(vector=vector, members=held.members, noise=noise)


def list_distances(
    created: TaskCreated, asked: Drift, *, answers: Answers, reference: Answers | None
) -> Iterator[Distance]:
    """Each distance that the policy asks for and that there is, in the order of its cohorts."""
    now, before = (read_histograms(created, asked, answers=each) for each in (answers, reference))
    # All of them together are one look: with more cohorts each needs to be further out.
    comparisons = len(now) + (len(asked.cohorts) if asked.looks_for_skew else 0)
    for cohort in now if before else ():
        yield from tell_distances("drift", cohort, found=compare(before[cohort], now[cohort], comparisons=comparisons))
    for cohort in asked.cohorts if now and asked.looks_for_skew else ():
        others = join([now[other] for other in asked.cohorts if other != cohort])
        yield from tell_distances("skew", cohort, found=compare(others, now[cohort], comparisons=comparisons))


def tell_distances(kind: DriftKind, cohort: str, *, found: Distances | None) -> Iterator[Distance]:
    """Both of a comparison, PSI first; none where there was nothing to compare."""
    if found is not None:
        yield Distance(kind=kind, cohort=cohort, measure="psi", value=found.psi, by_chance=found.psi_by_chance)
        yield Distance(kind=kind, cohort=cohort, measure="ks", value=found.ks, by_chance=found.ks_by_chance)


def read_histograms(created: TaskCreated, asked: Drift, *, answers: Answers | None) -> dict[str, Histogram]:
    """The histogram of all devices, under "", and then that of each cohort that the policy names.

    None at all without answers, or where they have overflowed.
    """
    measure = created.policy.measure
    assert measure is not None
    if answers is None or not np.isfinite(answers.vector).all():
        return {}
    named = split(answers.vector, created)
    # Of the sums, whatever is released: of a mean over devices nobody could tell how many a count is of.
    times = answers.members if measure.release == "mean" else 1
    rows = [read_counts(row, times=times) for row in np.atleast_2d(named[asked.statistic]).tolist()]
    if not asked.cohorts:
        return {"": Histogram(counts=rows[0], devices=Decimal(answers.members), noise=answers.noise)}
    devices = read_counts(named[asked.devices].tolist(), times=times)
    parts = [Histogram(counts=row, devices=some, noise=answers.noise) for row, some in zip(rows, devices, strict=True)]
    return {"": join(parts), **dict(zip(asked.cohorts, parts, strict=True))}
