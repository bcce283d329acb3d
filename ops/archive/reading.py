"""What the log says in public of tasks and their versions: a fold over the five topics that an archive is made of.

Only what the operator signed counts, and what an aggregator, a rollout, a privacy budget or an evaluator signed that
the operator has certified. Partitions and topics come in any order; `find_ready` says what can be written down.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.history.projections import read_evaluation
from schemas.canonical import to_plain
from schemas.certificates import Trust
from schemas.creations import collect_creations
from schemas.events import ModelPublished, RoundCharged, TaskCreated, VersionEvaluated
from schemas.identifiers import TaskId, Version
from schemas.published import read_version
from schemas.rollouts import Standing, Standings
from schemas.topics import EVALUATIONS, LEDGER, PUBLISHED, TASKS, partition_of
from streams.journals import JournalReader
from streams.log import Record, TopicPartition


@dataclass(frozen=True, slots=True)
class Release:
    """One version as it was announced: what it is, and the signed record that says so."""

    published: ModelPublished
    record: str


@dataclass(slots=True)
class PublicTask:
    """What is public of one task. `created` is None until the operator's record of it was read."""

    name: TaskId
    created: TaskCreated | None = None
    releases: dict[Version, Release] = field(default_factory=dict)
    charges: list[RoundCharged] = field(default_factory=list)
    # Of each version, in the order of the log, so that what is known later only has more behind it.
    evaluations: dict[Version, list[dict[str, Any]]] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)

    @property
    def newest(self) -> Version | None:
        """The newest version; None before the first."""
        return max(self.releases, default=None)

    def find_ready(self) -> Iterator[Version]:
        """The versions of which all is known that stays the same, the oldest first."""
        if self.created is None:
            return
        is_private = self.created.policy.privacy is not None
        charged = {charge.round for charge in self.charges}
        for version, release in sorted(self.releases.items()):
            # A round is charged before it is published, and the ledger may be read later.
            if release.published.round is None or not is_private or release.published.round in charged:
                yield version

    def list_charges(self, version: Version) -> list[RoundCharged]:
        """What the ledger has charged up to the release of a version."""
        last = self.releases[version].published.round
        # Version 0 is the operator's own model, of no round, and has cost nothing.
        return [] if last is None else [charge for charge in self.charges if charge.round <= last]


class PublicTasks:
    """All of them, as a projection that `ops.history.following` feeds; `task` follows one alone."""

    topics: Sequence[str] = (TASKS.name, PUBLISHED.name, LEDGER.name, EVALUATIONS.name)

    def __init__(
        self, operator: bytes, *, deployment: bytes | None, partitions: int, task: TaskId | None = None
    ) -> None:
        self.positions: dict[TopicPartition, int] = {}
        self.tasks: dict[TaskId, PublicTask] = {}
        # Of which something was read since somebody has looked, who takes the names out.
        self.changed: set[TaskId] = set()
        self._trust = Trust(operator, deployment)
        self._partitions, self._task = partitions, task
        self._standings = Standings(self._trust, partitions=partitions)
        self._ledgers: dict[int, JournalReader] = {}

    def apply(self, record: Record) -> None:
        """Take one record. Raises JournalBroken where a ledger is off its chain."""
        match record.topic:
            case TASKS.name:
                self._apply_creation(record)
            case PUBLISHED.name:
                self._apply_announcement(record)
            case LEDGER.name:
                self._apply_charges(record)
            case EVALUATIONS.name:
                self._apply_evaluation(record)
        self.positions[record.at] = record.offset + 1

    def _find(self, task: TaskId, record: Record) -> PublicTask | None:
        # A task lives in one partition: a copy elsewhere, perhaps of something old, is nothing.
        if self._task not in (None, task) or record.partition != partition_of(task, self._partitions):
            return None
        self.changed.add(task)
        return self.tasks.setdefault(task, PublicTask(task))

    def _apply_creation(self, record: Record) -> None:
        operator, deployment = self._trust.operator, self._trust.deployment
        found = collect_creations([record], operator, partitions=self._partitions, deployment=deployment)
        for created in found.values():
            # The log's order decides between two of one name, for every reader alike.
            if (task := self._find(created.task, record)) is not None and task.created is None:
                task.created = created

    def _apply_announcement(self, record: Record) -> None:
        data = record.value or b""
        name = self._standings.take(data, partition=record.partition, at_ms=record.time_ms)
        if name is not None:
            if (task := self._find(name, record)) is not None:
                task.standing = self._standings.find(name)
            return
        published = read_version(data, self._trust, at_ms=record.time_ms)
        if published is not None and (task := self._find(published.task, record)) is not None:
            # Written again after a crash it says the same.
            task.releases.setdefault(published.version, Release(published, data.decode()))

    def _apply_charges(self, record: Record) -> None:
        ledger = self._ledgers.get(record.partition)
        if ledger is None:
            ledger = self._ledgers[record.partition] = JournalReader(record.at, trust=self._trust)
        batch = ledger.follow(record)
        for decision in batch.decisions if batch is not None else ():
            for event in decision.events:
                if isinstance(event, RoundCharged) and (task := self._find(event.task, record)) is not None:
                    task.charges.append(event)

    def _apply_evaluation(self, record: Record) -> None:
        event = read_evaluation(record, self._trust)
        task = None if event is None else self._find(event.task, record)
        if event is None or task is None:
            return
        known = task.evaluations.setdefault(event.version, [])
        # Whoever may write there can copy a score as often as they like.
        if (told := _describe_evaluation(event)) not in known:
            known.append(told)


def _describe_evaluation(event: VersionEvaluated) -> dict[str, Any]:
    # Task and version are those of the file, and what a release leaves out stays out.
    plain = {**to_plain(event)}
    return {name: value for name, value in plain.items() if name not in ("type", "task", "version")}
