"""The aggregators' journals as a shard worker follows them: where tasks with shards are, and what is decided there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from actors.deciders.aggregator_state import Rounds, Task, evolve
from actors.keys import RoleKey
from schemas.creations import find_faults, find_misplacement, parse_creation
from schemas.events import JournalEvent, TaskCreated
from schemas.topics import ROUNDS, TASKS, UPDATES, partition_of
from streams.journals import JournalReader
from streams.log import EventLog, Reader, Record, TopicPartition, scan


@dataclass(slots=True)
class Followed:
    """One partition in which tasks with shards live, folded from its aggregator's journal."""

    journal: JournalReader
    state: Rounds = field(default_factory=Rounds)
    decided: int = 0  # the first offset of `updates` that is not decided yet


class Following:
    """Folds `rounds` of every partition that holds a task with shards, and reads `updates` there. For one thread.

    `begin` is called with the tasks of a partition once its journal is folded. Raises LogError and JournalBroken.
    """

    def __init__(self, log: EventLog, *, key: RoleKey, begin: Callable[[Iterable[Task]], None]) -> None:
        self.partitions: dict[int, Followed] = {}
        self._log, self._trust, self._begin_tasks = log, key.trust(), begin
        self._created: dict[str, TaskCreated | None] = {}  # None: one without shards
        self._everywhere = [TopicPartition(TASKS.name, number) for number in range(log.partitions)]
        self._tasks = log.reader(dict.fromkeys(self._everywhere, 0))
        self._reader: Reader | None = None  # of journals and updates; None while no task has shards

    def poll(self, timeout_s: float) -> tuple[int, list[Record]]:
        """The next records of journals and updates, and how many creations of tasks came besides."""
        created = self._tasks.poll(timeout_s if self._reader is None else 0.0)
        self._learn(created)
        return len(created), [] if self._reader is None else self._reader.poll(timeout_s)

    def fold(self, record: Record) -> Iterator[tuple[Rounds, JournalEvent]]:
        """The events of a journal's record, each with the state that it is folded into."""
        followed = self.partitions[record.partition]
        batch = followed.journal.follow(record)
        if batch is None:
            return
        for decision in batch.decisions:
            for event in decision.events:
                evolve(followed.state, event, decision.time_ms)
                yield followed.state, event
        followed.decided = batch.position.offsets.get(UPDATES.name, followed.decided)

    def task_with_shards(self, name: str) -> TaskCreated | None:
        """The task, if it has shards; `updates` may be ahead of `tasks`, so the log is asked for an unknown one."""
        if name not in self._created:
            self._learn(scan(self._log, TopicPartition(TASKS.name, partition_of(name, self._log.partitions))))
        return self._created.get(name)

    def tasks(self) -> list[Task]:
        """Every task of the partitions that are followed."""
        return [task for followed in self.partitions.values() for task in followed.state.tasks.values()]

    def is_up_to_date(self) -> bool:
        """Whether all creations of tasks have been read."""
        return all(self._tasks.position(at) >= self._log.bounds(at).end for at in self._everywhere)

    def find_decided_ms(self) -> int:
        """The append time up to which updates are decided in every partition; 0 where one cannot tell."""
        return min(self._find_decided_ms(*followed) for followed in self.partitions.items())

    def close(self) -> None:
        """Release the readers."""
        self._tasks.close()
        if self._reader is not None:
            self._reader.close()

    def _learn(self, records: Iterable[Record]) -> None:
        """Take note of tasks; where one has shards, its partition is followed from now on."""
        for record in records:
            created = parse_creation(record, self._trust.operator)
            # Another event, junk, or another deployment's task: the aggregator counts what is not its own.
            if created is None or created.deployment != self._trust.deployment:
                continue
            misplaced = find_misplacement(created, record.partition, partitions=self._log.partitions)
            if any(misplaced) or any(find_faults(created)):
                continue
            self._created.setdefault(created.task, created if created.policy.shard_count > 1 else None)
            if self._created[created.task] is not None and record.partition not in self.partitions:
                self._begin(record.partition)

    def _begin(self, partition: int) -> None:
        """Fold the journal up to now, and read on from there."""
        rounds, updates = TopicPartition(ROUNDS.name, partition), TopicPartition(UPDATES.name, partition)
        followed = self.partitions[partition] = Followed(JournalReader(rounds, trust=self._trust))
        end = 0
        for record in scan(self._log, rounds):
            end = record.offset + 1
            for _ in self.fold(record):
                pass
        self._begin_tasks(followed.state.tasks.values())
        before = self._reader
        positions = {rounds: end, updates: max(followed.decided, self._log.bounds(updates).beginning)}
        for other in self.partitions.keys() - {partition} if before else ():
            for at in (TopicPartition(ROUNDS.name, other), TopicPartition(UPDATES.name, other)):
                positions[at] = before.position(at) if before else 0
        self._reader = self._log.reader(positions)
        if before is not None:
            before.close()

    def _find_decided_ms(self, partition: int, followed: Followed) -> int:
        at, offset = TopicPartition(UPDATES.name, partition), followed.decided - 1
        if offset < self._log.bounds(at).beginning:
            return 0
        last = next(scan(self._log, at, start=offset), None)
        return last.time_ms if last is not None and last.offset == offset else 0
