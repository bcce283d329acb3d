"""Shard workers of a simulated world: they come, work, fall behind and go, from a stream of chance of their own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from msgspec.structs import replace

from actors.effects.aggregator.bodies import BodyLost
from actors.effects.shard.worker import Shard
from schemas.journal import ChainBroken
from streams.log import LogError
from streams.memory import MemoryLog
from tests.trials.simulation.tasks import Task
from tests.worlds.builders import role_key

SHARE = 0.4  # of the worlds have tasks with shards


class Shards:
    """Any number of shard workers at once, each on any partitions; none of them may ever matter to a law."""

    def __init__(self, seed: int, tasks: Sequence[Task], hits: Counter[str]) -> None:
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
            self._workers.append(Shard(log, role_key("shard"), mine))
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
