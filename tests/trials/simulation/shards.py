"""Shard workers of a simulated world: they come, work, fall behind and go, from a stream of chance of their own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from actors.effects.aggregator.bodies import BodyLost
from actors.effects.shard.worker import Shard
from actors.keys import RoleKey
from schemas.journal import ChainBroken
from schemas.policy import Sealed
from schemas.policy.robustness import takes_one
from streams.log import LogError
from streams.memory import MemoryLog
from tests.trials.simulation.tasks import Task
from tests.worlds.builders import role_key

SHARE = 0.4  # of the worlds have tasks with shards


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
        """Perhaps one of them does something."""
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
