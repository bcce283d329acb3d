"""What every worker process begins with, whatever it hosts: its role's key, the cluster, and its metrics.

`faust_app` and `shard_host` start a worker; `ops.processes.supervisor` makes its options.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from actors.expiry import require_unexpired
from actors.hosts.crash_marker import CrashMarker
from actors.hosts.metrics import WorkerMetrics
from actors.keys import RoleKey
from actors.runtime.guard import PoisonInput
from schemas.topics import CATALOGUE
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition
from streams.retry import keep_asking, retry_until_available

MEASURERS = min(8, os.cpu_count() or 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """How to reach the cluster, and what this worker is. `instance` names it in the group across restarts.

    `crash_marker` is where it leaves the place of the input that it is deciding; `poison_input` is one of which the
    workers before it died.
    """

    kafka: KafkaSettings
    key: RoleKey
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    instance: str | None = None
    crash_marker: CrashMarker | None = None
    poison_input: PoisonInput | None = None


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker that has reached its cluster."""

    options: WorkerOptions
    log: KafkaLog
    metrics: WorkerMetrics


def start_worker(options: WorkerOptions, *, topic: str) -> Worker:
    """Serve metrics, and wait until the cluster answers; from then on ask `topic` whether it still does.

    Raises KeyExpired, MetricsUnserved, LogRefused and TopicUnfit, which starting again cannot help.
    """
    require_unexpired(options.key)
    worker = Worker(options, KafkaLog(options.kafka, will_append=True), WorkerMetrics())
    worker.metrics.watch(worker.log.outage)
    worker.metrics.show_expiry(options.key.until_ms)
    worker.metrics.serve(options.metrics_host, options.metrics_port)
    # Deadlines compare append times and tasks live in one partition: topics that break this are refused (law 10).
    retry_until_available(partial(worker.log.check_topics, CATALOGUE), outage=worker.log.outage)
    # A worker without inputs asks nothing else, and would not notice that the broker is gone.
    keep_asking(partial(worker.log.bounds, TopicPartition(topic, 0)))
    return worker


def run_to_end(run: Callable[[], object], *, finish: Callable[[], None] = lambda: None) -> NoReturn:
    """Run a worker until it exits, let it `finish` what its threads have in hand, and end this process at once."""
    code: object = 0
    try:
        run()
    except SystemExit as end:
        code = end.code
    finish()
    # Libraries free their clients of Kafka one after the other, for seconds; a process that ends frees them all.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def make_measurers() -> ThreadPoolExecutor:
    """Threads for arithmetic on bodies: numpy, zstd and sha256 release the interpreter's lock."""
    return ThreadPoolExecutor(MEASURERS, thread_name_prefix="measurer")
