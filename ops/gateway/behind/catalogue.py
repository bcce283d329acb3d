"""What the log says about tasks and their versions: how each was created, how far it is, and where its models stand.

A fold over `tasks` and `published`, and over `registry` for who is revoked (`standing`). Only what the operator signed
counts, and what an aggregator or a rollout signed that the operator has certified.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ops.gateway.behind.standing import Standing
from schemas import rollouts
from schemas.certificates import Trust
from schemas.creations import parse_task_event
from schemas.events import DeploymentFounded, TaskClosed, TaskCreated
from schemas.identifiers import BodyRef, TaskId, Version
from schemas.published import read_version
from schemas.rollouts import Standings
from schemas.topics import MODELS, PUBLISHED, REGISTRY, TASKS, partition_of
from streams.log import Record

TOPICS = (TASKS.name, PUBLISHED.name, REGISTRY.name)


@dataclass(frozen=True, slots=True)
class Creation:
    """The first creation of a task, and the record in which the operator wrote it."""

    created: TaskCreated
    record: Record


class Catalogue:
    """One thread applies records, and any other asks."""

    def __init__(self, operator: bytes, *, partitions: int) -> None:
        self.trust = Trust(operator)
        self.standing = Standing(self.trust)
        self.founding: Record | None = None
        self.is_complete = threading.Event()
        self._partitions = partitions
        self._creations: dict[TaskId, Creation] = {}
        self._closed: set[TaskId] = set()
        self._newest: dict[TaskId, Version] = {}
        self._models: dict[bytes, BodyRef] = {}
        self._production = Standings(self.trust, partitions=partitions)

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return len(self._creations)

    @property
    def deployment(self) -> bytes | None:
        """The name of the deployment; None before it has one."""
        return self.trust.deployment

    def find_task(self, task: TaskId) -> Creation | None:
        """How the task was created."""
        return self._creations.get(task)

    def is_closed(self, task: TaskId) -> bool:
        """Whether the operator has closed it."""
        return task in self._closed

    def is_stale(self, created: TaskCreated, version: Version) -> bool:
        """Whether no update from this version can count any more: staleness only grows."""
        staleness = self._newest.get(created.task, 0) - version
        return staleness >= len(created.weights) or (staleness >= 0 and created.weights[staleness] == 0)

    def find_model(self, sha256: bytes) -> BodyRef | None:
        """Where a model with this digest stands."""
        return self._models.get(sha256)

    def find_production(self, task: TaskId) -> rollouts.Standing:
        """What the rollout of a task has put in production."""
        return self._production.find(task)

    def apply(self, record: Record) -> None:
        """Take one record of `tasks`, `published` or `registry`."""
        if record.topic == TASKS.name:
            self._apply_task(record)
        elif record.topic == REGISTRY.name:
            self.standing.apply(record)
        else:
            self._apply_version(record)

    def _apply_task(self, record: Record) -> None:
        match parse_task_event(record, self.trust.operator):
            case DeploymentFounded(deployment=deployment) if record.partition == 0 and self.founding is None:
                self.founding, self.trust.deployment = record, deployment
            case TaskCreated() as created if self._is_here(created, record):
                # The log's order decides between two of one name, for every reader alike.
                self._creations.setdefault(created.task, Creation(created, record))
                for ref in (created.model, created.frozen, created.subject.model if created.subject else None):
                    self._note_model(ref)
            case TaskClosed(task=task, deployment=deployment) if deployment == self.deployment:
                self._closed.add(task)

    def _is_here(self, created: TaskCreated, record: Record) -> bool:
        is_placed = record.partition == partition_of(created.task, self._partitions)
        return is_placed and created.partitions == self._partitions and created.deployment == self.deployment

    def _apply_version(self, record: Record) -> None:
        data = record.value or b""
        if self._production.take(data, partition=record.partition, at_ms=record.time_ms) is not None:
            return
        announced = read_version(data, self.trust, at_ms=record.time_ms)
        if announced is None:
            return
        self._note_model(announced.model)
        # Announcements are written again after a crash, and an old one says nothing new.
        self._newest[announced.task] = max(announced.version, self._newest.get(announced.task, 0))

    def _note_model(self, ref: BodyRef | None) -> None:
        # Nothing else of the log is handed out by a digest, whatever an announcement names.
        if ref is not None and ref.topic == MODELS.name:
            self._models[ref.sha256] = ref
