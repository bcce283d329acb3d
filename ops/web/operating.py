"""What a caller changes through the API or the page: written to the log, and read by the history too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from actors.keys import OperatorKey
from client_agent.learning.allow_list import AllowList
from ops.operator import models, succession, tasks
from ops.web.callers import Caller
from ops.web.reading import HistoryReader
from schemas import policy as policies
from schemas.events import TaskCreated
from schemas.identifiers import BodyRef, TaskId, Version
from schemas.topics import TASKS, partition_of
from streams.log import EventLog, TopicPartition

# How long an answer waits for the history; what was written stands in the log in any case.
SEEN_WAIT_S = 10.0
BODY_WAIT_S = 30.0
_MARK = 'SELECT "offset" FROM marks WHERE topic = $topic AND partition = $partition'


class Operator:
    """Changes tasks in the name of a caller. `open_log` gives a log of one's own; everything here blocks."""

    def __init__(
        self,
        open_log: Callable[[], AbstractContextManager[EventLog]],
        *,
        key: OperatorKey,
        reader: HistoryReader,
        allows: AllowList,
    ) -> None:
        self._open_log, self._key, self._reader, self._allows = open_log, key, reader, allows
        # One change at a time: two at once would read the same state and both be the next.
        self._lock = threading.Lock()

    def pause(self, task: TaskId, *, caller: Caller) -> bool:
        """No new leases; whether the history has it already. Raises TaskUnknown, TaskOver, NotAllowed."""
        return self._change(task, lambda log: tasks.pause(log, task, key=self._key), caller=caller)

    def resume(self, task: TaskId, *, caller: Caller) -> bool:
        """Leases again. Raises TaskUnknown, TaskOver, NotAllowed."""
        return self._change(task, lambda log: tasks.resume(log, task, key=self._key), caller=caller)

    def close(self, task: TaskId, *, caller: Caller) -> bool:
        """End it for good. Raises TaskUnknown, NotAllowed."""
        return self._change(task, lambda log: tasks.close(log, task, key=self._key), caller=caller)

    def create(self, name: TaskId, *, policy_toml: str, caller: Caller) -> TaskCreated:
        """A new task. Raises PolicyError, PluginNotAllowed, NotAllowed, and what `tasks.create` raises."""
        policy = policies.parse(policy_toml)
        # The policy is the caller's, and the machine is its owner's.
        self._allows.check_policy(policy)
        made: list[TaskCreated] = []
        self._change(
            name, lambda log: made.append(tasks.create(log, name, key=self._key, policy=policy)), caller=caller
        )
        return made[0]

    def fork(self, task: TaskId, *, version: Version, name: TaskId, caller: Caller) -> TaskCreated:
        """A new task from a version of another. Raises NotAllowed, and what `tasks.fork` raises."""
        origin = succession.Branch(task=task, version=version)
        made: list[TaskCreated] = []
        self._change(name, lambda log: made.append(self._fork(log, origin, name=name)), caller=caller)
        return made[0]

    # The policy stands in the log, and an operator elsewhere may have named code that this machine does not run.
    def read_body(self, ref: BodyRef) -> bytes:
        """The bytes of a model. Raises ModelGone, LogUnavailable."""
        # Under the lock too: models are large, and many at once would fill the memory.
        with self._lock, self._open_log() as log:
            return models.read_bytes(log, ref, timeout_s=BODY_WAIT_S)

    def _fork(self, log: EventLog, origin: succession.Branch, *, name: TaskId) -> TaskCreated:
        parent = tasks.find_view(log, origin.task, operator=self._key.public_key)
        if parent.created is not None:
            self._allows.check_policy(parent.created.policy)
        return tasks.fork(log, origin, name=name, key=self._key)

    def _change(self, task: TaskId, change: Callable[[EventLog], None], *, caller: Caller) -> bool:
        caller.require("operator")
        with self._lock, self._open_log() as log:
            change(log)
            at = TopicPartition(TASKS.name, partition_of(task, log.partitions))
            end = log.bounds(at).end
        return self._wait_until_seen(at, end)

    def _wait_until_seen(self, at: TopicPartition, end: int) -> bool:
        """Wait until the history has read `at` up to there, so that whoever changed something sees it next."""
        give_up_s = time.monotonic() + SEEN_WAIT_S
        while True:
            found = self._reader.ask(_MARK, parameters={"topic": at.topic, "partition": at.partition})
            if found.rows and found.rows[0][0] >= end:
                return True
            left_s = give_up_s - time.monotonic()
            if left_s <= 0 or found.position is None:
                return False
            self._reader.wait(found.position.next(), timeout_s=min(left_s, 1.0))
