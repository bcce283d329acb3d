"""A shard worker: measures the bodies of tasks with shards, adds those that are admitted, and tells the results.

It decides nothing. It follows the aggregators' journals as any reader does, and whatever it holds is a function of
these and of bodies: it may die at any time, or run twice at once. What it tells names what it is a result of.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import structlog

from actors.deciders.aggregator_state import Round, Rounds, Task, evolve
from actors.deciders.arithmetic import sums
from actors.effects.aggregator.bodies import Bodies, BodyLost
from actors.effects.aggregator.intake import Intake, Wanted
from actors.effects.aggregator.partials import by_partition
from actors.effects.aggregator.release import round_sum
from actors.effects.aggregator.submissions import Leased, leased, wanted
from actors.keys import OperatorKey, PartialSeals, Seals
from schemas.canonical import MalformedError, encode
from schemas.creations import parse_creation
from schemas.events import (
    BodyMeasured,
    JournalEvent,
    Partial,
    PartialStored,
    RoundAbandoned,
    RoundProposed,
    TaskCreated,
    UpdateAdmitted,
    UpdateRefused,
)
from schemas.journal import Batch
from schemas.tensors import Quanta
from schemas.topics import PARTIALS, PARTITIONS, ROUNDS, SHARDS, TASKS, UPDATES, partition_of
from streams.bodies import BUDGET_BYTES, BUDGET_BYTES_MIN, Absent, store
from streams.journals import JournalReader
from streams.log import Draft, EventLog, LogError, Reader, Record, TopicPartition, scan

HELD_BYTES = 128 * 2**20  # of opened bodies that wait for their admission
LEASES_REMEMBERED = 100_000
TOLD_AT_ONCE = 8
UNSEALED = bytes(32)
_EVERY_TASK = [TopicPartition(TASKS.name, partition) for partition in range(PARTITIONS)]

logger = structlog.get_logger()


@dataclass(slots=True)
class Followed:
    """One partition in which tasks with shards live, folded from its aggregator's journal."""

    journal: JournalReader
    state: Rounds = field(default_factory=Rounds)
    decided: int = 0  # the first offset of `updates` that is not decided yet


class Shard:
    """Looks after some partitions of `shards`; for one thread.

    Every call may raise LogError, JournalBroken, or BodyLost where it comes too late: then this one is thrown away, and
    another begins.
    """

    def __init__(self, log: EventLog, key: OperatorKey, partitions: Iterable[int]) -> None:
        self.partitions = frozenset(partitions)
        self.measured = self.stored = 0
        self._log, self._key = log, key
        self._seals, self._partial_seals = Seals(key), PartialSeals(key)
        # One reader a partition: together they may hold what one may, as long as none gets too little.
        budget_bytes = max(BUDGET_BYTES_MIN, BUDGET_BYTES // max(1, len(self.partitions)))
        self._intake = Intake(Bodies(log, partition=0, budget_bytes=budget_bytes))
        self._tasks = log.reader(dict.fromkeys(_EVERY_TASK, 0))
        self._created: dict[str, TaskCreated | None] = {}  # None: one without shards
        self._followed: dict[int, Followed] = {}
        self._reader: Reader | None = None  # of what is followed
        self._leases: OrderedDict[str, None] = OrderedDict()
        self._bodies: deque[tuple[Leased, Wanted]] = deque()
        self._coming: deque[tuple[Leased, Wanted]] = deque()  # after these
        self._held: OrderedDict[str, Quanta] = OrderedDict()
        self._held_bytes = 0
        self._sums: dict[tuple[str, int, int], sums.RunningSum] = {}  # by task, round and partition

    def counted(self) -> tuple[int, int]:
        """Bodies measured and sums stored since this was asked last."""
        counts, self.measured, self.stored = (self.measured, self.stored), 0, 0
        return counts

    def employ(self, threads: Executor) -> None:
        """Fetch, open and add beside the caller's thread."""
        self._intake.employ(threads)

    def step(self, timeout_s: float) -> int:
        """Take in what has come, and tell what follows; how many records that were."""
        records = self._tasks.poll(timeout_s if self._reader is None else 0.0)
        self._learn(records)
        if self._reader is None:
            return len(records)
        has_work = self._bodies and self._held_bytes < HELD_BYTES
        news = self._reader.poll(0.0 if has_work else timeout_s)
        for record in news:
            if record.topic == ROUNDS.name:
                followed = self._followed[record.partition]
                for event in self._folded(followed, followed.journal.follow(record)):
                    self._act(followed.state, event)
        self._coming.extend(self._found(record for record in news if record.topic == UPDATES.name))
        return len(records) + len(news) + self._measure()

    def housekeep(self) -> None:
        """Delete bodies in these partitions that no unpublished round and no undecided update can need.

        As the aggregator does in `bodies`: what was appended less than the policy's hours before the last decided
        update stays. Nothing goes while one of the journals cannot tell.
        """
        tasks = [task for each in self._followed.values() for task in each.state.tasks.values()]
        spread = [task for task in tasks if task.created.policy.shard_count > 1]
        if not spread or any(self._tasks.position(at) < self._log.bounds(at).end for at in _EVERY_TASK):
            return
        hours = max(task.created.policy.retention.body_hours for task in spread)
        decided_ms = min(self._decided_ms(*each) for each in self._followed.items())
        rounds = [each for task in spread for each in (*task.pending, task.buffer) if each is not None]
        members = [member for each in rounds for member in each.members.values()]
        for partition in self.partitions:
            at = TopicPartition(SHARDS.name, partition)
            needed = [member.body.offsets[0] for member in by_partition(members).get(partition, ())]
            aged = self._log.first_since(at, max(0, decided_ms - round(hours * 3_600_000)))
            before = min([aged, *needed])
            if before > self._log.bounds(at).beginning:
                self._log.delete_records(at, before)
                logger.info("bodies deleted", topic=at.topic, partition=partition, before_offset=before)

    def _decided_ms(self, partition: int, followed: Followed) -> int:
        """When the last decided update was appended; 0 where that cannot be told."""
        at, offset = TopicPartition(UPDATES.name, partition), followed.decided - 1
        if offset < self._log.bounds(at).beginning:
            return 0
        last = next(scan(self._log, at, start=offset), None)
        return last.time_ms if last is not None and last.offset == offset else 0

    def close(self) -> None:
        """Release readers and threads."""
        self._tasks.close()
        self._intake.close()
        if self._reader is not None:
            self._reader.close()

    # --- follow -----------------------------------------------------------------------------------------------------

    def _learn(self, records: Iterable[Record]) -> None:
        """Tasks; where one has shards, its partition is followed from now on."""
        for record in records:
            created = parse_creation(record.value)
            if created is None:
                continue  # another event, or junk, which the aggregator counts
            self._created.setdefault(created.task, created if created.policy.shard_count > 1 else None)
            if self._created[created.task] is not None and record.partition not in self._followed:
                self._begin(record.partition)

    def _begin(self, partition: int) -> None:
        """Fold the journal up to now, store the sums that somebody may wait for, and read on from there."""
        rounds, updates = TopicPartition(ROUNDS.name, partition), TopicPartition(UPDATES.name, partition)
        followed = self._followed[partition] = Followed(JournalReader(rounds, accepts_resume=self._key.accepts))
        end = 0
        for record, batch in followed.journal.read(self._log):
            end = record.offset + 1
            for _ in self._folded(followed, batch):
                pass
        for task in followed.state.tasks.values():
            for pending in task.pending:
                self._store(task, pending)
        before = self._reader
        positions = {rounds: end, updates: max(followed.decided, self._log.bounds(updates).beginning)}
        for other in self._followed.keys() - {partition} if before else ():
            for at in (TopicPartition(ROUNDS.name, other), TopicPartition(UPDATES.name, other)):
                positions[at] = before.position(at) if before else 0
        self._reader = self._log.reader(positions)
        if before is not None:
            before.close()

    def _folded(self, followed: Followed, batch: Batch | None) -> Iterator[JournalEvent]:
        """The events of a batch, each once it is in the state."""
        if batch is None:
            return
        for decision in batch.decisions:
            for event in decision.events:
                evolve(followed.state, event, decision.time_ms)
                yield event
        followed.decided = batch.position.offsets.get(UPDATES.name, followed.decided)

    def _act(self, state: Rounds, event: JournalEvent) -> None:
        match event:
            case UpdateAdmitted() if event.body.topic == SHARDS.name and event.body.partition in self.partitions:
                self._add(state.tasks[event.task], event)
            case UpdateRefused():
                self._let_go(event.update)
            case RoundProposed():
                task = state.tasks[event.task]
                self._store(task, task.pending[-1])
            case RoundAbandoned():
                for key in [key for key in self._sums if key[:2] == (event.task, event.round)]:
                    del self._sums[key]

    # --- measure ----------------------------------------------------------------------------------------------------

    def _measure(self) -> int:
        """A few at a time: those that are admitted meanwhile are added, and need be held no more.

        The aggregator decides in the same order, so that it never waits for what is measured only then.
        """
        if self._held_bytes >= HELD_BYTES:
            self._let_go_of_decided()
            return 0
        if not self._bodies:
            self._bodies, self._coming = self._coming, deque()
            if self._intake.looks_ahead:
                self._intake.expect(body for _, body in self._bodies)
        few = [self._bodies.popleft() for _ in range(min(TOLD_AT_ONCE, len(self._bodies)))]
        told = [self._measured(*each) for each in few]
        if found := [partial for partial in told if partial is not None]:
            self._tell(found)
        return len(few)

    def _measured(self, submitted: Leased, body: Wanted) -> BodyMeasured | None:
        try:
            found = self._intake.take(body)
        except LogError:
            raise
        except Exception as error:
            # The aggregator meets it too, and records a defect.
            logger.critical("defect", update=submitted.update.lease.lease, error=repr(error), exc_info=error)
            return None
        if found.quanta is not None:
            self._hold(submitted.update.lease.lease, found.quanta)
        self.measured += 1
        return BodyMeasured(
            task=body.created.task, body=body.ref, clip_scale=found.scale, fault=found.fault, seal=UNSEALED
        )

    def _found(self, records: Iterable[Record]) -> Iterator[tuple[Leased, Wanted]]:
        """Bodies in these partitions, the first of each lease: a repeat is decided without a look at its body."""
        for record in records:
            try:
                submitted = leased(record, self._seals)
            except MalformedError:
                continue
            if submitted is None or submitted.inline is not None or submitted.update.lease.lease in self._leases:
                continue
            created = self._task(submitted.update.lease.task)
            body = wanted(created, submitted) if created else None
            if isinstance(body, Wanted) and body.ref.partition in self.partitions:
                self._leases[submitted.update.lease.lease] = None
                while len(self._leases) > LEASES_REMEMBERED:
                    self._leases.popitem(last=False)
                yield submitted, body

    def _task(self, name: str) -> TaskCreated | None:
        """A task with shards; this worker may have heard of its updates first."""
        if name not in self._created:
            self._learn(scan(self._log, TopicPartition(TASKS.name, partition_of(name))))
        return self._created.get(name)

    def _hold(self, update: str, quanta: Quanta) -> None:
        self._held[update] = quanta
        self._held_bytes += quanta.values.nbytes

    def _let_go_of_decided(self) -> None:
        """Whoever reads `updates` late may open what has had its outcome before."""
        tasks = [task for followed in self._followed.values() for task in followed.state.tasks.values()]
        for update in [update for update in self._held if any(update in task.outcomes for task in tasks)]:
            self._let_go(update)

    def _let_go(self, update: str) -> Quanta | None:
        quanta = self._held.pop(update, None)
        self._held_bytes -= quanta.values.nbytes if quanta is not None else 0
        return quanta

    # --- add --------------------------------------------------------------------------------------------------------

    def _add(self, task: Task, admitted: UpdateAdmitted) -> None:
        """Add an update to the sum of its round and partition; the first one adds those before it."""
        assert task.buffer is not None
        quanta = self._let_go(admitted.update)
        if admitted.zeroed is not None:
            return
        key = (admitted.task, admitted.round, admitted.body.partition)
        if key not in self._sums:
            members = by_partition(task.buffer.members.values())[admitted.body.partition]
            self._sums[key] = self._summed(task, [member for member in members if member.update != admitted.update])
        if quanta is None:
            quanta = self._intake.take(Wanted(task.created, admitted.body)).quanta
        if quanta is None:
            raise BodyLost(admitted.body, Absent("it was there when it was measured"))
        self._intake.add(self._sums[key], quanta, weight=admitted.weight, scale=admitted.clip_scale)

    def _store(self, task: Task, proposed: Round) -> None:
        """Store and tell the sums of a round in these partitions."""
        self._intake.settle()
        for partition, members in by_partition(proposed.members.values()).items():
            if partition not in self.partitions:
                continue
            running = self._sums.pop((task.created.task, proposed.id, partition), None) or self._summed(task, members)
            root = sums.members_root(members)
            body = store(
                self._log,
                TopicPartition(SHARDS.name, partition),
                data=running.total().astype("<i8").tobytes(),
                upload_id=f"{task.created.task}/{proposed.id}/{root.hex()[:16]}",
                codec="int64",
            )
            self.stored += 1
            self._tell(
                [PartialStored(task=task.created.task, round=proposed.id, members_root=root, body=body, seal=UNSEALED)]
            )

    def _summed(self, task: Task, members: Iterable[UpdateAdmitted]) -> sums.RunningSum:
        return round_sum(task.created, members, fetch=self._intake.fetch)

    def _tell(self, partials: Sequence[Partial]) -> None:
        self._log.append(
            [
                Draft(
                    topic=PARTIALS.name,
                    partition=partition_of(partial.task),
                    value=encode(self._partial_seals.sealed(partial)),
                )
                for partial in partials
            ]
        )
