"""What the operator signed in `tasks`, for actors that hear of it through the aggregator's journal.

A journal is believed by its chain, which whoever may write there can go on. So what only the operator may say is looked
up where it stands signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from actors.keys import RoleKey
from schemas.canonical import encode
from schemas.creations import parse_task_event
from schemas.events import DeploymentFounded, JournalEvent, Noticed, TaskCreated, TaskEvent
from schemas.identifiers import TaskId
from schemas.topics import TASKS
from streams.log import EventLog, TopicPartition, scan


class OperatorEvents:
    """The signed events of one partition of `tasks`, read as far as somebody has asked; for one thread."""

    def __init__(self, log: EventLog, partition: int, *, key: RoleKey) -> None:
        self._log, self._at, self._key = log, TopicPartition(TASKS.name, partition), key
        self._next: int | None = None
        self._digests: set[bytes] = set()
        self._created: set[TaskId] = set()

    def look_up(self, said: Iterable[JournalEvent]) -> None:
        """Read as far as these events of one journal record need it. Raises LogUnavailable."""
        # The aggregator read it there before it noticed it, so that one look at what is new is enough.
        if not all(map(self.vouch_for, said)):
            self._read_on()

    def vouch_for(self, said: JournalEvent) -> bool:
        """Whether an event that was looked up is not the operator's, or the operator signed exactly that."""
        if not isinstance(said, Noticed) or not isinstance(said.fact, TaskEvent):
            return True
        return _digest(said.fact) in self._digests

    def _read_on(self) -> None:
        for record in scan(self._log, self._at, start=self._next):
            self._next = record.offset + 1
            event = parse_task_event(record, self._key.operator)
            if event is None or isinstance(event, DeploymentFounded) or event.deployment != self._key.deployment:
                continue
            if isinstance(event, TaskCreated):
                # Of two creations of one name the first counts, and the second is nothing that an actor notices.
                if event.task in self._created or event.partitions != self._log.partitions:
                    continue
                self._created.add(event.task)
            self._digests.add(_digest(event))


def _digest(event: TaskEvent) -> bytes:
    return hashlib.sha256(encode(event)).digest()
