"""A shard worker: measures the bodies of tasks with shards, adds the admitted ones, and publishes the results.

It decides nothing. It follows the aggregators' journals as any reader does, and all its memory is a function of these
and of bodies: it may die at any time, or run twice at once. Each result names what it is a result of.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from itertools import chain

import structlog

from actors.deciders.aggregator_state import Round, Rounds, Task
from actors.effects.aggregator.bodies import Bodies, BodyLost
from actors.effects.aggregator.intake import Intake, UpdateBody
from actors.effects.aggregator.partials import by_partition
from actors.effects.aggregator.retention import delete_old_bodies, list_unpublished_members
from actors.effects.aggregator.submissions import Submission, locate_body, verify_update
from actors.effects.aggregator.summation import choose_summation
from actors.effects.sealing.epoch_keys import EpochKeyMissing, EpochKeys
from actors.effects.sealing.summing import Summed
from actors.effects.shard.following import Following
from actors.effects.shard.held import HeldVectors, PartialSum
from actors.effects.shard.results import UNSEALED, Results
from actors.keys import RoleKey
from actors.runtime.guard import Alarms
from schemas.canonical import MalformedError
from schemas.events import (
    BodyMeasured,
    JournalEvent,
    RoundAbandoned,
    RoundProposed,
    UpdateAdmitted,
    UpdateRefused,
)
from schemas.identifiers import BodyRef
from schemas.topics import ROUNDS, SHARDS, UPDATES
from streams.bodies import BUDGET_BYTES, BUDGET_BYTES_MIN, Absent
from streams.log import EventLog, LogError, Record, TopicPartition
from streams.packing import unpack

LEASES_REMEMBERED = 100_000
MEASURED_AT_ONCE = 8
# Outlives a shard that is thrown away, or each new one would tell the same failure with its traceback again.
_ALARMS = Alarms()

logger = structlog.get_logger()


@dataclass(slots=True)
class Counts:
    """Bodies measured and sums stored since the counts were taken last."""

    measured: int = 0
    stored: int = 0


class Shard:
    """Looks after some partitions of `shards`; for one thread.

    Every call may raise LogError, JournalBroken, or BodyLost where it comes too late: then this one is thrown away, and
    another begins.
    """

    def __init__(self, log: EventLog, key: RoleKey, partitions: Iterable[int]) -> None:
        self.partitions = frozenset(partitions)
        self.counts = Counts()
        self._trust, self._keys, self._results = key.trust(), EpochKeys.open_for(key), Results(log, key)
        # Split the memory budget over the partitions, but never below BUDGET_BYTES_MIN each.
        budget_bytes = max(BUDGET_BYTES_MIN, BUDGET_BYTES // max(1, len(self.partitions)))
        self._intake = Intake(Bodies(log, partition=0, budget_bytes=budget_bytes))
        self._following = Following(log, key=key, begin=self._store_pending)
        self._leases: OrderedDict[str, None] = OrderedDict()
        self._bodies: deque[tuple[Submission, UpdateBody]] = deque()
        self._coming: deque[tuple[Submission, UpdateBody]] = deque()  # bodies found after those in _bodies
        self._held = HeldVectors()
        self._sums: dict[tuple[str, int, int], PartialSum] = {}  # by task, round and partition

    def take_counts(self) -> Counts:
        """What was done since the last call."""
        counts, self.counts = self.counts, Counts()
        return counts

    def use_threads(self, threads: Executor) -> None:
        """Fetch, open and add beside the caller's thread."""
        self._intake.use_threads(threads)

    def step(self, timeout_s: float) -> int:
        """Read what has come, and publish what follows; the number of records read and bodies measured."""
        has_work = self._bodies and not self._held.is_full
        created, news = self._following.poll(0.0 if has_work else timeout_s)
        for record in news:
            if record.topic == ROUNDS.name:
                for state, event in self._following.fold(record):
                    self._act(state, event)
        self._coming.extend(self._find_bodies(record for record in news if record.topic == UPDATES.name))
        return created + len(news) + self._measure_some()

    def delete_unneeded(self) -> None:
        """Delete bodies in these partitions that no unpublished round and no undecided update can need.

        Nothing is deleted while one of the journals is not read to its end.
        """
        tasks = [task for task in self._following.tasks() if task.created.policy.shard_count > 1]
        if not tasks or not self._following.is_up_to_date():
            return
        decided_ms, members = self._following.find_decided_ms(), by_partition(list_unpublished_members(tasks))
        for partition in self.partitions:
            at = TopicPartition(SHARDS.name, partition)
            delete_old_bodies(
                self._results.log, at, tasks=tasks, needed=members.get(partition, ()), decided_ms=decided_ms
            )

    def close(self) -> None:
        """Release readers and threads."""
        self._following.close()
        self._intake.close()

    def _act(self, state: Rounds, event: JournalEvent) -> None:
        match event:
            case UpdateAdmitted() if event.body.topic == SHARDS.name and event.body.partition in self.partitions:
                self._add(state.tasks[event.task], event)
            case UpdateRefused():
                self._held.take(event.update)
            case RoundProposed():
                task = state.tasks[event.task]
                self._store(task, task.pending[-1])
            case RoundAbandoned():
                for key in [key for key in self._sums if key[:2] == (event.task, event.round)]:
                    del self._sums[key]

    # --- measure ----------------------------------------------------------------------------------------------------

    def _measure_some(self) -> int:
        """Measure a few bodies: updates that are admitted meanwhile are added, and need not be kept in memory.

        The aggregator decides in the same order, so that it never waits for a body that is measured only later.
        """
        if self._held.is_full:
            self._held.drop_decided(self._following.tasks())
            return 0
        if not self._bodies:
            self._bodies, self._coming = self._coming, deque()
            if self._intake.looks_ahead:
                self._intake.expect(body for _, body in self._bodies)
        few = [self._bodies.popleft() for _ in range(min(MEASURED_AT_ONCE, len(self._bodies)))]
        results = [self._measure(*each) for each in few]
        self._results.publish([result for result in results if result is not None])
        return len(few)

    def _measure(self, submission: Submission, body: UpdateBody) -> BodyMeasured | None:
        try:
            found = self._intake.measure(body)
        except LogError:
            raise
        except EpochKeyMissing as error:
            # The aggregator finds out too, and decides what follows.
            logger.warning("body_not_opened", update=submission.lease.lease, reason=str(error))
            return None
        except Exception as error:  # noqa: BLE001
            # The aggregator meets it too, and records a defect.
            _ALARMS.tell(error, update=submission.lease.lease)
            return None
        if found.quanta is not None:
            self._held.put(submission.lease.lease, found)
        self.counts.measured += 1
        return BodyMeasured(
            task=body.summation.created.task,
            body=body.ref,
            clip_scale=found.scale,
            fault=found.fault,
            seal=UNSEALED,
            update=body.sealed_update,
        )

    def _find_bodies(self, records: Iterable[Record]) -> Iterator[tuple[Submission, UpdateBody]]:
        """Bodies in these partitions, the first of each lease: a repeat is decided without a look at its body."""
        for record in chain.from_iterable(map(unpack, records)):
            try:
                submission = verify_update(record, self._trust)
            except MalformedError:
                continue
            if submission is None or submission.inline is not None or submission.lease.lease in self._leases:
                continue
            created = self._following.task_with_shards(submission.lease.task)
            ref = locate_body(created, submission) if created else None
            if created and isinstance(ref, BodyRef) and ref.partition in self.partitions:
                self._leases[submission.lease.lease] = None
                while len(self._leases) > LEASES_REMEMBERED:
                    self._leases.popitem(last=False)
                yield submission, UpdateBody(choose_summation(created, self._keys), ref, submission.lease)

    # --- add --------------------------------------------------------------------------------------------------------

    def _add(self, task: Task, admitted: UpdateAdmitted) -> None:
        """Add an update to the sum of its round and partition; the first one adds those before it."""
        found = self._held.take(admitted.update)
        if admitted.zeroed is not None:
            return
        key = (admitted.task, admitted.round, admitted.body.partition)
        summation = choose_summation(task.created, self._keys)
        try:
            if key not in self._sums:
                assert task.buffer is not None
                members = by_partition(task.buffer.members.values())[admitted.body.partition]
                before = [member for member in members if member.update != admitted.update]
                self._sums[key] = PartialSum.recompute(summation, before, fetch=self._intake.fetch)
            if found is None:
                found = self._intake.measure(UpdateBody(summation, admitted.body, admitted))
        except EpochKeyMissing:
            self._require_home(task, [admitted])
            # A sum without it would be another: none is stored, and the aggregator abandons the round.
            self._sums.pop(key, None)
            return
        if (quanta := found.quanta) is None:
            raise BodyLost(admitted.body, Absent("it was there when it was measured"))
        self._sums[key].note(admitted, found.metrics)
        weight, scale = admitted.weight, admitted.clip_scale
        add = partial(self._sums[key].running.add, quanta, update=admitted.update, weight=weight, scale=scale)
        self._intake.add(add, nbytes=quanta.values.nbytes)

    def _require_home(self, task: Task, members: Iterable[UpdateAdmitted]) -> None:
        """Raises EpochKeysUnusable in a folder that never held the keys of members, which the aggregator did hold."""
        for member in members:
            if isinstance(member.epoch, int):
                self._keys.require_home(task.created, member.epoch)

    def _store_pending(self, tasks: Iterable[Task]) -> None:
        """Store the sums of proposed rounds: their aggregator may be waiting for them."""
        for task in tasks:
            for pending in task.pending:
                self._store(task, pending)

    def _store(self, task: Task, proposed: Round) -> None:
        """Store and publish the sums of a round in these partitions."""
        self._intake.settle()
        for partition, members in by_partition(proposed.members.values()).items():
            if partition not in self.partitions:
                continue
            summed = Summed(created=task.created, round_id=proposed.id, members=members)
            try:
                made = self._sums.pop((task.created.task, proposed.id, partition), None)
                if made is None:
                    summation = choose_summation(task.created, self._keys)
                    made = PartialSum.recompute(summation, members, fetch=self._intake.fetch)
                data = made.pack(summed, self._keys)
            except EpochKeyMissing as error:
                self._require_home(task, members)
                logger.warning("sum_not_stored", task=task.created.task, round=proposed.id, reason=str(error))
                continue
            self.counts.stored += 1
            self._results.store(summed, data, partition=partition)
