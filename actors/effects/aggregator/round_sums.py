"""The running sums of open rounds: each admitted update is added at once, so that a release need not read it again.

A sum is a function of the state and of bodies. After a restart the first admission of a round adds the ones before it
again; what shard workers have added is read from their partial sums, or recomputed.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from actors.deciders.aggregator_state import Round, Task
from actors.effects.aggregator.intake import Intake
from actors.effects.aggregator.partials import Partials, by_partition, select_own
from actors.effects.aggregator.summation import RunningTotal, choose_summation
from schemas.events import UpdateAdmitted
from schemas.tensors import Grid, Quanta
from schemas.topics import SHARDS


class RoundSums:
    """For one actor's thread; the adding itself may be done in the threads of the intake."""

    def __init__(self, intake: Intake, partials: Partials) -> None:
        self.running: dict[tuple[str, int], RunningTotal] = {}
        self._intake, self._partials = intake, partials

    def add(self, task: Task, admitted: UpdateAdmitted, *, quanta: Quanta | None) -> None:
        """Add an update that was just admitted; `quanta` is None where it counts as zero."""
        if admitted.body.topic == SHARDS.name:
            return  # its shard worker adds it
        key = (admitted.task, admitted.round)
        if key not in self.running:
            # The first of its round, or the first after a restart: then the ones before it are added again.
            [round_] = [round_ for round_ in task.rounds() if round_.id == admitted.round]
            before = [member for member in select_own(round_.members.values()) if member.update != admitted.update]
            self.running[key] = choose_summation(task.created).recompute(before, self._intake.fetch)
        if admitted.zeroed is None and quanta is not None:
            weight, scale = admitted.weight, admitted.clip_scale
            add = partial(self.running[key].add, quanta, update=admitted.update, weight=weight, scale=scale)
            self._intake.add(add, nbytes=quanta.values.nbytes)

    def drop(self, task: str, round_id: int) -> None:
        """Forget a round that gives no version."""
        self.running.pop((task, round_id), None)

    def total(self, task: Task, proposed: Round) -> Grid:
        """The exact sum of a proposed round, int64 of shape (parameters,). Raises BodyLost."""
        # Threads may still be adding, and a sum taken now would lack members that the proposal names.
        self._intake.settle()
        summation = choose_summation(task.created)
        running = self.running.pop((task.created.task, proposed.id), None)
        if running is None:
            running = summation.recompute(select_own(proposed.members.values()), self._intake.fetch)
        spread = by_partition(proposed.members.values()).values()
        return summation.total(running, [self._partial(task, proposed.id, members=members) for members in spread])

    def _partial(self, task: Task, round_id: int, *, members: list[UpdateAdmitted]) -> Grid:
        """The sum of members whose bodies lie in one partition, as its shard worker stored it, or recomputed."""
        stored = self._partials.find_stored(task, round_id, members=members)
        data = None if stored is None else self._intake.find(stored.body)
        # A sum that is missing or too short is no error: shard workers make things faster, never different.
        if isinstance(data, bytes) and len(data) == 8 * task.created.parameters:
            return np.frombuffer(data, "<i8")
        return choose_summation(task.created).recompute(members, self._intake.fetch).total()
