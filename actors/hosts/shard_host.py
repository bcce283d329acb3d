"""Hosts a shard worker: the partitions that its group leaves to it, and a new shard whenever these change.

The supervisor calls `run`.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterable
from functools import partial

import structlog

from actors.effects.aggregator.bodies import BodyLost
from actors.effects.shard.worker import Shard
from actors.expiry import Expiry
from actors.hosts.loop import HostLoop
from actors.hosts.metrics import ShardMetrics
from actors.hosts.worker import Worker, WorkerOptions, make_measurers, run_to_end, start_worker
from schemas.topics import SHARDS
from streams.kafka.membership import Membership
from streams.log import LogUnavailable, OffsetLost
from streams.retry import RETRY_EVERY_S, retry_until_available

NAME = "shard"
IDLE_WAIT_S = 0.1

logger = structlog.get_logger()


def run(options: WorkerOptions) -> None:
    """Look after shards until stopped."""
    # An exit code of its own, because a supervisor reports death by a signal as a failure.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    worker = start_worker(options, topic=SHARDS.name)
    membership = retry_until_available(
        partial(Membership, options.kafka, NAME, topic=SHARDS.name, instance=options.instance)
    )
    run_to_end(lambda: asyncio.run(ShardHost(worker, membership).run()))


class ShardHost(HostLoop):
    """One shard over all partitions that are ours. Its calls may block: nothing else runs in this process's loop."""

    def __init__(self, worker: Worker, membership: Membership) -> None:
        super().__init__(Expiry(worker.options.key))
        self._worker, self._membership = worker, membership
        self._metrics = ShardMetrics(worker.metrics.instruments)
        self._measurers = make_measurers()
        self._shard = Shard(worker.log, worker.options.key, ())

    async def turn(self) -> None:
        """As every host, but a shard may fail: all that it holds is a function of the log, so that another begins."""
        try:
            await super().turn()
        except (LogUnavailable, OffsetLost, BodyLost) as error:
            logger.warning("shard_discarded", error=str(error))
            # A broker that is away fails the next one too, at once.
            await asyncio.sleep(RETRY_EVERY_S)
            self._begin(self._shard.partitions)

    async def open_assigned(self) -> None:
        """Begin another shard where the group has decided anew."""
        if (assigned := self._membership.partitions()) != self._shard.partitions:
            logger.info("shards_assigned", partitions=sorted(assigned))
            self._begin(assigned)

    async def feed(self) -> int:
        """Let the shard read, measure and add."""
        count = self._shard.step(IDLE_WAIT_S)
        counts = self._shard.take_counts()
        self._metrics.count(counts.measured, counts.stored)
        return count

    async def delete_unneeded(self) -> None:
        """Let the shard delete bodies."""
        self._shard.delete_unneeded()

    def _begin(self, partitions: Iterable[int]) -> None:
        # The new one first: where it cannot begin, the old one is still there to be asked for its partitions.
        before, self._shard = self._shard, Shard(self._worker.log, self._worker.options.key, partitions)
        before.close()
        self._shard.use_threads(self._measurers)
