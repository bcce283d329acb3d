"""What a caller changes through the API or the page: written to the log, and read by the history too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import msgspec

from actors.keys import Delegate, RoleKey
from client_agent.learning.allow_list import AllowList
from ops.operator import deployments, models, succession, tasks
from ops.operator.quarantines import lifting
from ops.web.callers import Caller, NotAllowed
from ops.web.reading import HistoryReader
from schemas import policy as policies
from schemas.creations import STEWARD
from schemas.events import TaskCreated
from schemas.identifiers import BodyRef, TaskId, Version
from schemas.policy import Policy
from schemas.rollouts import Standing
from schemas.topics import TASKS, partition_of
from streams.log import EventLog, TopicPartition

# How long an answer waits for the history; what was written stands in the log in any case.
SEEN_WAIT_S = 20.0
BODY_WAIT_S = 30.0
_MARK = 'SELECT "offset" FROM marks WHERE topic = $topic AND partition = $partition'


class Operator:
    """Changes tasks in the name of a caller; everything here blocks.

    `open_log` and `open_bodies` give logs, the one for changes and the other for what is only read.
    `find_key` gives the server's own key, None where it has none: then it only shows. `believes`: the operator's public
    key, against which what rollouts say is checked; None believes whoever signed.
    """

    def __init__(
        self,
        open_log: Callable[[], AbstractContextManager[EventLog]],
        *,
        open_bodies: Callable[[], AbstractContextManager[EventLog]],
        find_key: Callable[[EventLog], RoleKey | None],
        reader: HistoryReader,
        allows: AllowList,
        believes: bytes | None = None,
    ) -> None:
        self._open_log, self._find_key, self._reader, self._allows = open_log, find_key, reader, allows
        # One change at a time: two at once would read the same state and both be the next.
        self._lock = threading.Lock()
        # Apart, so that whoever only looks, and downloads one model after the other, holds up nobody who must act.
        self._open_bodies, self._reading = open_bodies, threading.Lock()
        self._believes = believes
        self._production: models.Production | None = None

    def pause(self, task: TaskId, *, caller: Caller) -> bool:
        """No new leases; whether the history has it already. Raises TaskUnknown, TaskOver, NotAllowed."""
        return self._change(task, partial(_pause, task=task), caller=caller)

    def resume(self, task: TaskId, *, caller: Caller) -> bool:
        """Leases again. Raises TaskUnknown, TaskOver, NotAllowed."""
        return self._change(task, partial(_resume, task=task), caller=caller)

    def close(self, task: TaskId, *, caller: Caller) -> bool:
        """End it for good. Raises TaskUnknown, NotAllowed."""
        return self._change(task, partial(_close, task=task), caller=caller)

    def lift(self, task: TaskId, *, device: str, caller: Caller) -> bool:
        """Let a quarantined device take part again. Raises TaskUnknown, DeviceNotQuarantined, NotAllowed."""
        return self._change(task, partial(_lift, task=task, device=device), caller=caller)

    def create(self, name: TaskId, *, policy_toml: str, caller: Caller) -> TaskCreated:
        """A new task. Raises PolicyError, PluginNotAllowed, NotAllowed, and what `tasks.create` raises."""
        caller.require("admin")
        policy = policies.parse(policy_toml)
        # The policy is the caller's, and the machine is its owner's.
        self._allows.check_policy(policy)
        made: list[TaskCreated] = []

        def create(log: EventLog, key: Delegate) -> None:
            made.append(tasks.create(log, name, key=key, policy=policy))

        self._change(name, create, caller=caller, creates=True)
        return made[0]

    def fork(
        self, task: TaskId, *, version: Version, name: TaskId, caller: Caller, rho_max: float | None = None
    ) -> TaskCreated:
        """A new task from a version of another; `rho_max`: another budget, against which all that was spent counts.

        Raises NotAllowed, PolicyError, and what `tasks.fork` raises.
        """
        caller.require("admin")
        made: list[TaskCreated] = []

        def fork(log: EventLog, key: Delegate) -> None:
            parent = tasks.find_view(log, task, operator=key.public_key)
            # The policy stands in the log: an operator elsewhere may have named code that this machine does not run.
            if parent.created is not None:
                self._allows.check_policy(parent.created.policy)
            policy = None if rho_max is None or parent.created is None else _allow_more(parent.created, rho_max)
            branch = succession.Branch(task=task, version=version)
            made.append(tasks.fork(log, branch, name=name, key=key, policy=policy))

        self._change(name, fork, caller=caller, creates=True)
        return made[0]

    def read_body(self, ref: BodyRef) -> bytes:
        """The bytes of a model. Raises ModelGone, LogUnavailable."""
        with self._look() as log:
            return models.read_bytes(log, ref, timeout_s=BODY_WAIT_S)

    def read_standing(self, task: TaskId) -> Standing:
        """What is in production of a task, as the log says now. Raises LogUnavailable."""
        with self._look() as log:
            if self._production is None:
                deployment = deployments.find(log, self._believes)
                self._production = models.Production(self._believes, deployment=deployment)
            return self._production.find(log, task)

    @contextmanager
    def _look(self) -> Iterator[EventLog]:
        """The log of whoever only looks. One at a time: it is one connection."""
        with self._reading, self._open_bodies() as log:
            yield log

    def _change(
        self, task: TaskId, change: Callable[[EventLog, Delegate], object], *, caller: Caller, creates: bool = False
    ) -> bool:
        caller.require("operator")
        with self._lock, self._open_log() as log:
            change(log, self._open_key(log, caller=caller, creates=creates))
            at = TopicPartition(TASKS.name, partition_of(task, log.partitions))
            end = log.bounds(at).end
        return self._wait_until_seen(at, end)

    def _open_key(self, log: EventLog, *, caller: Caller, creates: bool) -> Delegate:
        key = self._find_key(log)
        if key is None:
            raise NotAllowed("This server has no key to sign with: it only shows. `fedlog key issue --for serve`.")
        # Every reader would pass over what its certificate is not for, and whoever asked would wait in vain.
        if creates and key.role != STEWARD:
            raise NotAllowed("This server may not create tasks: the operator grants it by a key for `steward`.")
        return Delegate(key, asked_by=caller.subject)

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


def _allow_more(created: TaskCreated, rho_max: float) -> Policy:
    """Its policy with another budget. Raises PolicyError."""
    if created.policy.privacy is None:
        raise policies.PolicyError(f"{created.task!r} is not private: it has no budget.")
    privacy = msgspec.structs.replace(created.policy.privacy, rho_max=rho_max)
    return policies.check_policy(msgspec.structs.replace(created.policy, privacy=privacy))


def _pause(log: EventLog, key: Delegate, *, task: TaskId) -> None:
    tasks.pause(log, task, key=key)


def _resume(log: EventLog, key: Delegate, *, task: TaskId) -> None:
    tasks.resume(log, task, key=key)


def _close(log: EventLog, key: Delegate, *, task: TaskId) -> None:
    tasks.close(log, task, key=key)


def _lift(log: EventLog, key: Delegate, *, task: TaskId, device: str) -> None:
    lifting.lift(log, task, device=device, key=key)
