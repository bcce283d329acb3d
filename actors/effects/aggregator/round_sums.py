"""The running sums of open rounds: each admitted update is added at once, so that a release need not read it again.

A sum is a function of the state and of bodies. After a restart the first admission of a round adds the ones before it
again; what shard workers have added is read from their partial sums, or recomputed.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from functools import partial

import numpy as np
from msgspec import UNSET, UnsetType

from actors.deciders.aggregator_state import Round, Task
from actors.deciders.masking.hearing import MasksUnusable
from actors.deciders.quarantining.judging import Compared
from actors.effects.aggregator.intake import Intake
from actors.effects.aggregator.partials import Partials, by_partition, select_own
from actors.effects.aggregator.summation import NO_KEYS, Measured, RunningTotal, choose_summation
from actors.effects.masking.unmasking import unmask_or_give_up
from actors.effects.sealing.epoch_keys import EpochKeyMissing, EpochKeys
from actors.effects.sealing.summing import SealedReport, Summed, open_sum
from actors.effects.watching.watched import Sketches, WatchedTotal
from schemas.events import UpdateAdmitted
from schemas.policy.metrics import MetricSums, add_sums, list_open_reports, sum_metrics
from schemas.tensors import BodyError, Grid, Quanta
from schemas.topics import SHARDS


class RoundSums:
    """For one actor's thread; the adding itself may be done in the threads of the intake."""

    def __init__(self, intake: Intake, partials: Partials, keys: EpochKeys = NO_KEYS) -> None:
        self.running: dict[tuple[str, int], RunningTotal] = {}
        self._reports: defaultdict[tuple[str, int], dict[str, SealedReport]] = defaultdict(dict)
        self._partial_reports: defaultdict[tuple[str, int], list[MetricSums | None]] = defaultdict(list)
        self._compared: dict[tuple[str, int], Compared] = {}
        self._intake, self.partials, self._keys = intake, partials, keys

    def add(self, task: Task, admitted: UpdateAdmitted, *, found: Measured | None) -> None:
        """Add an update that was just admitted; `found` is None where it counts as zero."""
        if admitted.body.topic == SHARDS.name:
            return  # its shard worker adds it
        key = (admitted.task, admitted.round)
        if key not in self.running:
            # The first of its round, or the first after a restart: then the ones before it are added again.
            [round_] = [round_ for round_ in task.rounds() if round_.id == admitted.round]
            before = [member for member in select_own(round_.members.values()) if member.update != admitted.update]
            self.running[key] = self._recompute(task, before)
        quanta = None if found is None else found.quanta
        if admitted.zeroed is None and found is not None and quanta is not None:
            self._note(admitted, found.metrics)
            weight, scale = admitted.weight, admitted.clip_scale
            add = partial(self.running[key].add, quanta, update=admitted.update, weight=weight, scale=scale)
            self._intake.add(add, nbytes=quanta.values.nbytes)

    def drop(self, task: str, round_id: int) -> None:
        """Forget a round that gives no version."""
        self.running.pop((task, round_id), None)
        self._reports.pop((task, round_id), None)
        self._partial_reports.pop((task, round_id), None)

    def total(self, task: Task, proposed: Round) -> Grid | MasksUnusable:
        """The exact sum of a proposed round, int64 of shape (parameters,). Raises BodyLost, EpochKeyMissing.

        Of a masked one without its masks, or the word that they cannot be taken off.
        """
        # Threads may still be adding, and a sum taken now would lack members that the proposal names.
        self._intake.settle()
        summation = choose_summation(task.created, self._keys)
        running = self.running.pop((task.created.task, proposed.id), None)
        if running is None:
            running = self._recompute(task, select_own(proposed.members.values()))
        if isinstance(running, WatchedTotal):
            self._compared[task.created.task, proposed.id] = self._compare(task, proposed, sketches=running.sketches)
        spread = by_partition(proposed.members.values()).values()
        total = summation.total(running, [self._partial(task, proposed.id, members=members) for members in spread])
        return unmask_or_give_up(task, proposed, total=total, fetch=self._intake.fetch)

    def sum_reports(self, task: Task, proposed: Round) -> MetricSums | UnsetType | None:
        """Of what members of a sealed round report, once its total is taken; of others the proposal has it."""
        key, policy = (task.created.task, proposed.id), task.created.policy
        told, partials = self._reports.pop(key, {}), self._partial_reports.pop(key, [])
        if not policy.is_sealed:
            return UNSET
        own = sum_metrics(told.values(), count=len(list_open_reports(policy)))
        return add_sums([own, *partials])

    def take_compared(self, task: Task, proposed: Round) -> Compared | UnsetType:
        """How its members lie to each other, once the total of a round is taken; unset where nobody asks for it."""
        return self._compared.pop((task.created.task, proposed.id), UNSET)

    def _compare(self, task: Task, proposed: Round, *, sketches: Sketches) -> Compared:
        compared = sketches.compare(proposed.members.values())
        summation = choose_summation(task.created, self._keys)

        def recall(member: UpdateAdmitted) -> Quanta | None:
            # Bodies of published rounds are deleted, and keys of epochs destroyed: then its past is not told.
            with contextlib.suppress(EpochKeyMissing):
                return summation.measure(self._intake.find(member.body), member).quanta
            return None

        suspects = {} if task.watch is UNSET else task.watch.suspects
        return sketches.compare_past(compared, suspects, recall=recall)

    def _recompute(self, task: Task, members: list[UpdateAdmitted]) -> RunningTotal:
        return choose_summation(task.created, self._keys).recompute(members, self._intake.fetch, note=self._note)

    def _note(self, member: UpdateAdmitted, metrics: tuple[int, ...]) -> None:
        if metrics:
            report = SealedReport(metrics, member.samples)
            self._reports[member.task, member.round][member.update] = report

    def _partial(self, task: Task, round_id: int, *, members: list[UpdateAdmitted]) -> Grid:
        """The sum of members whose bodies lie in one partition, as its shard worker stored it, or recomputed."""
        stored = self.partials.find_stored(task, round_id, members=members)
        data = None if stored is None else self._intake.find(stored.body)
        # A sum that is missing or too short is no error: shard workers make things faster, never different.
        with contextlib.suppress(BodyError, EpochKeyMissing):
            if isinstance(data, bytes) and task.created.policy.is_sealed:
                summed = Summed(created=task.created, round_id=round_id, members=members)
                data, metrics = open_sum(summed, data, keys=self._keys)
                self._partial_reports[task.created.task, round_id].append(metrics)
            if isinstance(data, bytes) and len(data) == 8 * task.created.parameters:
                return np.frombuffer(data, "<i8")
        return self._recompute(task, members).total()
