"""Hosts a shard worker: the partitions that its group leaves to it, and a new shard whenever these change."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog

from actors import keys
from actors.effects.aggregator.bodies import BodyLost
from actors.effects.aggregator.shard import Shard
from actors.hosts.metrics import ShardMetrics, WorkerMetrics
from schemas.topics import CATALOGUE, SHARDS
from streams.kafka.log import KafkaLog
from streams.kafka.membership import Membership
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, OffsetLost, TopicPartition
from streams.retry import keep_asking, retry_until_available

NAME = "shard"
IDLE_WAIT_S = 0.1
HOUSEKEEP_EVERY_S = 600.0
MEASURERS = min(8, os.cpu_count() or 2)

logger = structlog.get_logger()


def run(kafka: KafkaSettings, operator_key_file: Path, *, instance: str, metrics: tuple[str, int]) -> None:
    """Look after shards until stopped; `metrics`: the host and port to answer Prometheus on."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    key, log, worker_metrics = keys.load(operator_key_file), KafkaLog(kafka), WorkerMetrics()
    worker_metrics.watch(log.outage)
    worker_metrics.serve(*metrics)
    shard_metrics = ShardMetrics(worker_metrics.instruments)
    retry_until_available(partial(log.check_topics, CATALOGUE))
    keep_asking(partial(log.bounds, TopicPartition(SHARDS.name, 0)))
    membership = retry_until_available(partial(Membership, kafka, NAME, topic=SHARDS.name, instance=instance))
    threads = ThreadPoolExecutor(MEASURERS, thread_name_prefix="measurer")
    shard = Shard(log, key, ())
    housekept_s = time.monotonic()
    while True:
        if (mine := membership.partitions()) != shard.partitions:
            logger.info("shards", partitions=sorted(mine))
            shard = _another(shard, Shard(log, key, mine), threads=threads)
        try:
            shard.step(IDLE_WAIT_S)
            shard_metrics.count(*shard.counted())
            if time.monotonic() - housekept_s > HOUSEKEEP_EVERY_S:
                housekept_s = time.monotonic()
                shard.housekeep()
        except (LogUnavailable, OffsetLost, BodyLost) as error:
            logger.warning("begins anew", error=str(error))
            time.sleep(1.0)
            shard = _another(shard, Shard(log, key, shard.partitions), threads=threads)


def _another(before: Shard, shard: Shard, *, threads: ThreadPoolExecutor) -> Shard:
    before.close()
    shard.employ(threads)
    return shard
