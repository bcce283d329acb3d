"""The log of one run and all that work on it, in turns: devices, actors, evaluator, and whoever watches."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from actors.keys import OperatorKey
from actors.wiring import ROLES
from client_agent.learning.allow_list import AllowList
from client_agent.links.kafka import KafkaLink
from client_agent.running.loop import Stats
from client_agent.running.profiles import STEADY, read_habits
from ops.history.following import Follower
from ops.history.task_view import TaskView
from ops.operator import deployments, tasks
from ops.processes.running import RunOptions
from ops.services.evaluator import Evaluator, Missed
from ops.virtual.fleet import Casting, VirtualFleet, open_cast
from ops.virtual.server import PARTITION, Server, VirtualClock
from ops.virtual.trace import Trace
from schemas.policy import Policy
from schemas.topics import CATALOGUE
from streams.memory import MemoryLog

# What a record takes to whom it is for.
LATENCY_MS = 1
# Long enough that the draws differ: of devices that end together the same would be first in each round.
AT_WORK = replace(STEADY, training_ms=100.0)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Book:
    """The log, its clock, and what is noted of what is decided."""

    clock: VirtualClock
    log: MemoryLog
    trace: Trace

    @classmethod
    def open(cls) -> Book:
        """An empty one."""
        clock = VirtualClock()
        return cls(clock, MemoryLog(CATALOGUE, clock=clock.read_ms, partitions=PARTITION + 1), Trace())


class Stage:
    """A task that was created, and all that work on it. `folder` is for the devices' outboxes."""

    def __init__(self, book: Book, options: RunOptions, *, key: OperatorKey, folder: Path, say: Say) -> None:
        self._book, self._task, self._say = book, options.name, say
        log, clock = book.log, book.clock
        # Leases and cohorts are drawn from the deployment's name, so it has to be the same again.
        deployments.establish(log, key, deployment=derive_deployment(options.policy))
        created = tasks.create(log, options.name, key=key, policy=options.policy)
        # Each with a key of its own, as on machines of their own.
        roles = {role: deployments.issue_key(log, key, role=role) for role in (*ROLES, "evaluator")}
        allowed = AllowList(names=frozenset(options.policy.list_plugins().values()), command="fedlog run")
        simulation = AT_WORK if options.simulate is None else read_habits(options.simulate)
        count = options.devices or options.policy.selection.devices_expected
        casting = Casting(count=count, allowed=allowed, simulation=simulation, attack=options.attack)
        cast = open_cast(created, casting, folder=folder)
        for reason in cast.failed:
            say(reason)
        link = KafkaLink(log, key.public_key, cast.ids)
        self._fleet = VirtualFleet(link, cast, clock=clock, down_ms=simulation.away_after_death_ms)
        actors = {role: roles[role] for role in ROLES}
        self._server = Server(log, clock, keys=actors, observers=[book.trace])
        # Before the first device asks: it would hear of no task, and come back much later.
        self._server.settle()
        self._evaluator = Evaluator(log, key=roles["evaluator"], task=options.name, allowed=allowed)
        self._views = tasks.make_views(log, key.public_key)
        self._follower = Follower(log, self._views)

    @property
    def view(self) -> TaskView:
        """The task as the log has it."""
        return self._views.view(self._task)

    def step(self) -> bool:
        """Everybody's turn at this moment, and on to the next at which anything is due; whether the log has grown."""
        clock, due_ms = self._book.clock, self._fleet.step()
        if is_busy := self._server.settle() > 0:
            self._score()
            # A score may end the task.
            self._server.settle()
            while self._follower.poll(0.0):
                pass
        # Where there were answers their devices are due next, and else nothing happens before somebody wakes.
        next_ms = 0 if is_busy else min(due_ms, self._server.find_due_ms())
        clock.now_ms = max(clock.now_ms + LATENCY_MS, next_ms)
        self._server.pass_time()
        return is_busy

    def judge(self) -> str:
        """Why there is nothing to wait for any more; empty while there is."""
        return self._fleet.judge(self.view)

    def count(self) -> Stats:
        """What the devices did."""
        return self._fleet.count()

    def close(self) -> None:
        """Release what was opened."""
        self._server.close()
        self._evaluator.close()
        self._follower.close()

    def _score(self) -> None:
        self._evaluator.wait(0.0)
        for found in self._evaluator.step():
            if isinstance(found, Missed):
                self._say(f"Version {found.version} is not scored: {found.reason}")


def derive_deployment(policy: Policy) -> bytes:
    """The name of a deterministic run's deployment, by its seed; nobody would draw it."""
    drawn_from = f"fedlog/deterministic/deployment/{policy.drawn_by.habits}"
    return hashlib.sha256(drawn_from.encode()).digest()[: deployments.DEPLOYMENT_BYTES]
