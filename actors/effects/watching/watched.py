"""A running total that keeps a sketch of each member beside the sum, so that members can be compared at the end.

`summation` wraps a total in one where the policy asks for quarantine; aggregator and full replay read the scores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import numpy as np
from msgspec import UNSET
from msgspec.structs import replace

from actors.deciders.arithmetic.comparing import Score, Sketcher, compare, measure_cosine
from actors.deciders.quarantining.judging import Compared, select_apart
from actors.deciders.quarantining.watch import Suspect
from schemas.events import Anomaly, TaskCreated, UpdateAdmitted, name_unit
from schemas.tensors import Grid, Quanta

SEED_BYTES = 32
# The vector of an update that was admitted before; None where it cannot be read any more.
Recall = Callable[[UpdateAdmitted], Quanta | None]


class Adding(Protocol):
    """A running total, as far as it is used here (`summation.RunningTotal`)."""

    def add(self, quanta: Quanta, *, update: str, weight: int, scale: int) -> None: ...

    def total(self) -> Grid: ...


class Sketches:
    """Of the members of one round, by update. Their memory grows with the members, and not with the model."""

    def __init__(self, created: TaskCreated, seed: bytes) -> None:
        self.seed, self._policy, self._clip = seed, created.policy, created.policy.clipping.steps
        self._sketcher = Sketcher(seed, created.parameters)
        self._by_update: dict[str, Grid] = {}

    def add(self, quanta: Quanta, *, update: str, scale: int) -> None:
        """Keep the sketch of a member, clipped by its scale."""
        self._by_update[update] = self._sketcher.sketch(quanta, scale=scale)

    def compare(self, members: Iterable[UpdateAdmitted]) -> Compared:
        """The score of each of these members, in the order of their update ids."""
        known = {member.update: member for member in members if member.update in self._by_update}
        # In one order, so that neither arrival nor machine changes a bit.
        updates = sorted(known)
        scores: list[Score] = []
        if updates:
            scores = compare(np.array([self._by_update[update] for update in updates]), clip=self._clip)
        return Compared(self.seed, tuple(_describe(known[u], score) for u, score in zip(updates, scores, strict=True)))

    def compare_past(self, compared: Compared, suspects: Mapping[str, Suspect], *, recall: Recall) -> Compared:
        """The same, with the cosine to what each that stands apart sent when it last did so, as far as one can read."""
        apart = {score.update for score in select_apart(compared.scores, self._policy)}
        return Compared(
            compared.seed,
            tuple(
                self._add_past(score, suspects.get(name_unit(score)), recall=recall) if score.update in apart else score
                for score in compared.scores
            ),
        )

    def _add_past(self, score: Anomaly, suspect: Suspect | None, *, recall: Recall) -> Anomaly:
        last = suspect.last if suspect is not None else None
        quanta = recall(last) if last is not None else None
        if last is None or quanta is None:
            return score
        past = self._sketcher.sketch(quanta, scale=last.clip_scale)
        return replace(score, past=measure_cosine(self._by_update[score.update], past))


class WatchedTotal:
    """A running total, and the sketches of its members under a seed of its own, which nobody knows before the end."""

    def __init__(self, created: TaskCreated, inner: Adding) -> None:
        self._inner = inner
        self.sketches = Sketches(created, os.urandom(SEED_BYTES))

    def add(self, quanta: Quanta, *, update: str, weight: int, scale: int) -> None:
        """Add the vector of a member, and keep its sketch."""
        self._inner.add(quanta, update=update, weight=weight, scale=scale)
        self.sketches.add(quanta, update=update, scale=scale)

    def total(self) -> Grid:
        """As without sketches."""
        return self._inner.total()


def watch(created: TaskCreated, total: Adding) -> Adding:
    """The total, watched where the policy asks for that."""
    return total if created.policy.quarantine is UNSET else WatchedTotal(created, total)


def _describe(member: UpdateAdmitted, score: Score) -> Anomaly:
    return Anomaly(
        update=member.update,
        device=member.device,
        distance=score.distance,
        norm=score.norm,
        cosine=score.cosine,
        z=score.z,
        subject=member.subject,
    )
