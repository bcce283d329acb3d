"""What only some worlds have, each from a stream of chance of its own: seals, quarantine, and shard workers.

Shard workers come, work, fall behind and go.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from actors.effects.aggregator.bodies import BodyLost
from actors.effects.shard.worker import Shard
from actors.keys import RoleKey
from schemas.events import QuarantineLifted
from schemas.journal import ChainBroken
from schemas.policy import Aggregation, Quarantine, Sealed, check_policy
from schemas.policy.robustness import takes_one
from schemas.topics import TASKS
from streams.log import Draft, LogError
from streams.memory import MemoryLog
from tests.trials.simulation.tasks import Task
from tests.trials.simulation.verdict import Watch
from tests.worlds.builders import DEPLOYMENT, role_key, written

SHARE = 0.4  # of the worlds have tasks with shards
WATCHED, MEMBERS = 0.2, 5  # of the worlds compare the members of their rounds, so many of them


class Sealing:
    """The tier sealed, in some worlds, and the folder of its keys, from which one may be lost."""

    def __init__(self, seed: int, tasks: Sequence[Task], hits: Counter[str]) -> None:
        # Of its own, so that what else a seed draws does not depend on seals.
        self._random = random.Random(f"{seed}/sealing")
        self._hits, self.folder = hits, Path()
        self.are_there = False
        for task in tasks if self._random.random() < SHARE else ():
            rules, turns = task.rules, Sealed(epoch_versions=self._random.choice((1, 3)))
            # What a policy refuses: a version of one update, and a rule that writes losses of single devices down.
            is_hidden = rules.aggregation.members_min > 1 and not takes_one(rules)
            if is_hidden and rules.selection.rule != "utility":
                task.rules, self.are_there = replace(rules, tier="sealed", sealed=turns), True

    def key_of(self, role: str) -> RoleKey:
        """What a worker of this role holds."""
        return replace(role_key(role), epoch_keys=str(self.folder)) if self.are_there else role_key(role)

    def step(self) -> None:
        """Perhaps somebody deletes a key that is still needed."""
        if self.are_there and self.folder.exists() and self._random.random() < 0.01:
            for file in sorted(self.folder.glob("*.key"))[-1:]:
                file.unlink()
                self._hits["keys of epochs lost"] += 1


class Watching:
    """Quarantine, in some worlds, and an operator who lifts it sooner or later."""

    def __init__(self, seed: int, tasks: Sequence[Task]) -> None:
        self._random = random.Random(f"{seed}/watching")
        self._watches: dict[int, Watch | None] = {}
        for task in tasks if self._random.random() < WATCHED else ():
            # Who shares its devices with another task is under privacy, and nobody looks at that.
            is_open = task.rules.privacy is None and task.rules.measure is None
            if is_open and task.rules.shard_count == 1 and not task.rules.is_masked:
                self._watch(task)

    def _watch(self, task: Task) -> None:
        """More devices than a round takes, so that one may be out; and scores that chance alone will reach."""
        names = [f"{task.name[0]}-{number}" for number in range(MEMBERS + self._random.randint(1, 3))]
        window = self._random.randint(1, 3)
        asked = Quarantine(rounds=self._random.randint(1, window), window=window, z_min=self._random.uniform(1.0, 4.0))
        selection = replace(task.rules.selection, devices_expected=len(names), concurrency=2 * len(names))
        rules = replace(
            task.rules,
            selection=replace(selection, participations_max=0),
            aggregation=Aggregation(updates_per_round=MEMBERS, rule=task.rules.aggregation.rule),
            quarantine=asked,
        )
        task.devices, task.rules = names, check_policy(rules)
        self._watches[task.partition] = None  # until there is a log to read

    def step(self, log: MemoryLog) -> None:
        """Perhaps the operator looks, and lets everybody in again."""
        if self._watches and self._random.random() < 0.03:
            self.lift(log)

    def lift(self, log: MemoryLog) -> None:
        """One order for each quarantine that there is; some more than once, before an aggregator has heard of it."""
        for partition in self._watches:
            watch = self._watches[partition] = self._watches[partition] or Watch(log, partition)
            watch.look()
            for held in watch.quarantined.values():
                order = QuarantineLifted(
                    task=held.task, deployment=DEPLOYMENT, device=held.device, round=held.round, subject=held.subject
                )
                log.append([Draft(topic=TASKS.name, partition=partition, value=written(order))])


class Shards:
    """Any number of shard workers at once, each on any partitions; none of them may ever matter to a law."""

    def __init__(self, seed: int, tasks: Sequence[Task], hits: Counter[str], *, sealing: Sealing) -> None:
        self._sealing = sealing
        # Of its own, so that what else a seed draws does not depend on shards.
        self._random = random.Random(f"{seed}/shards")
        self._hits = hits
        self._workers: list[Shard] = []
        self.are_there = self._random.random() < SHARE
        for task in tasks if self.are_there else ():
            shards = self._random.choice((2, 4, 8))
            # A robust rule compares all members of a round, and shard workers see a part of them.
            if task.rules.aggregation.rule == "mean":
                task.rules = replace(task.rules, shards=shards)

    def step(self, log: MemoryLog) -> None:
        """Perhaps one of them does something, and perhaps a key is lost."""
        self._sealing.step()
        if not self.are_there or self._random.random() < 0.4:
            return
        if not self._workers or self._random.random() < 0.1:
            mine = self._random.sample(range(log.partitions), self._random.choice((1, 4, log.partitions)))
            self._workers.append(Shard(log, self._sealing.key_of("shard"), mine))
            self._hits["shard workers started"] += 1
        worker = self._random.choice(self._workers)
        try:
            worker.step(0)
            if self._random.random() < 0.05:
                worker.delete_unneeded()
            if self._random.random() < 0.05:
                self._workers.remove(worker)
        except (ChainBroken, LogError, BodyLost):
            self._workers.remove(worker)  # its supervisor starts another
        counts = worker.take_counts()
        self._hits.update({"bodies measured by shards": counts.measured, "sums stored by shards": counts.stored})
