"""The table [drift]: when a measure task's answers have moved from a reference, or a cohort's from the others'."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from schemas.identifiers import TASK_PATTERN, Cohort
from schemas.policy.section import Section

if TYPE_CHECKING:
    from schemas.policy.sections import Policy

COHORTS_MAX = 32
# Each of them is looked at with every version, in decimals.
ELEMENTS_MAX = 1024


class Drift(Section):
    """What is compared, with what, and from which distance on it is told.

    `statistic`: a histogram, of shape [bins]; with `cohorts` of shape [cohorts, bins], a row each in this order, and
    `devices` then counts, in shape [cohorts], who answered. The reference is `version` of this task, or of the task
    `of` as it was when this one was created (-1: its newest). `skew_`: between a cohort and all others.
    """

    statistic: str = "histogram"
    cohorts: tuple[str, ...] = ()
    devices: str = "devices"
    of: str = ""
    version: int = 1
    # The usual rule for the PSI; the KS distance is a share of the examples.
    psi_max: float = 0.2
    ks_max: float = 0.1
    skew_psi_max: float | UnsetType = UNSET
    skew_ks_max: float | UnsetType = UNSET

    @property
    def looks_for_skew(self) -> bool:
        """Whether cohorts are compared with each other."""
        return self.skew_psi_max is not UNSET or self.skew_ks_max is not UNSET


def find_drift_problems(policy: Policy) -> Iterator[str]:
    """What cannot hold in the table, or together with it, one line for each."""
    asked, measure = policy.drift, policy.measure
    if asked is UNSET:
        return
    if measure is None:
        yield "drift: compares answers to a question; take kind = 'measure', or leave the table out"
        return
    if asked.of and not re.fullmatch(TASK_PATTERN, asked.of):
        yield f"drift.of = {asked.of!r:.80}: is no name of a task"
    if asked.version == 0 or (asked.version < 0 and not asked.of):
        yield f"drift.version = {asked.version}: the first answer is version 1; -1 is the newest of drift.of"
    yield from _find_cohort_problems(asked)
    yield from _find_shape_problems(asked, {name: each.shape for name, each in measure.statistics.items()})


def _find_cohort_problems(asked: Drift) -> Iterator[str]:
    if len(asked.cohorts) == 1 or len(asked.cohorts) > COHORTS_MAX:
        yield f"drift.cohorts: {len(asked.cohorts)} of them; none, or from 2 to {COHORTS_MAX}"
    if len({*asked.cohorts}) < len(asked.cohorts):
        yield "drift.cohorts: one of them is named twice"
    for cohort in asked.cohorts:
        try:
            msgspec.convert(cohort or " ", Cohort)
        except msgspec.ValidationError:
            yield f"drift.cohorts: {cohort!r:.80} is no name of a cohort: letters, digits, dot, - and _, at most 32"
    if asked.looks_for_skew and not asked.cohorts:
        yield "drift.skew_psi_max, drift.skew_ks_max: between which cohorts? drift.cohorts names them"


def _find_shape_problems(asked: Drift, shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """Statistics that are not there, or have no such shape."""
    # One row a cohort, in the order of the policy: nothing else says whose a row is.
    rows = (len(asked.cohorts),) if asked.cohorts else ()
    shape = shapes.get(asked.statistic)
    if not shape or shape[:-1] != rows or shape[-1] < 2:
        has = "is not in [measure.statistics]" if shape is None else f"has shape {[*shape]}"
        wanted = f"[{len(asked.cohorts)}, bins]" if rows else "[bins]"
        yield f"drift.statistic = {asked.statistic!r:.80}: {has}; a histogram of shape {wanted} is compared"
    elif shape[-1] * max(1, len(asked.cohorts)) > ELEMENTS_MAX:
        yield f"drift.statistic = {asked.statistic!r:.80}: has more than {ELEMENTS_MAX} elements"
    if rows and shapes.get(asked.devices) != rows:
        yield f"drift.devices = {asked.devices!r:.80}: with cohorts a statistic of shape {[*rows]} counts who answered"
