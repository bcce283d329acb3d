"""What shards take off an aggregator: it and a shard worker, each in a process of its own, over filled topics."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actors.effects.shard.worker import Shard
from actors.hosts.worker import MEASURERS
from schemas.topics import body_place
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.bench.machine import peak_mb
from tests.bench.measures.ingest import TASK, WARM, Case, filled, words
from tests.places import PARTITIONS
from tests.trials.results import ROOT
from tests.worlds.builders import role_key


def measure(case: Case, broker: KafkaSettings) -> dict[str, Any]:
    """CPU and memory of both, partial sums and releases included; one shard worker looks after all shards."""
    settings = filled(case, broker)
    options = words(case, settings)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.bench.measures.sharding", *options, "--sums", str(_sums(case))],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()  # it is at work
        command = [sys.executable, "-m", "tests.bench.measures.ingest", *options]
        root = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        told, _ = worker.communicate(timeout=120)
    found: dict[str, Any] = json.loads(root.stdout.splitlines()[-1])
    return found | {f"shard_{name}": value for name, value in json.loads(told.splitlines()[-1]).items()}


def _sums(case: Case) -> int:
    """How many partial sums there are to store: one for each round and partition that it has members in."""
    updates, size = case.updates + WARM, case.updates_per_round
    rounds = [range(first, first + size) for first in range(0, updates - size + 1, size)]
    return sum(
        len({body_place(TASK, f"device-{n}", shards=case.shards, partitions=PARTITIONS) for n in members})
        for members in rounds
    )


def work(settings: KafkaSettings, updates: int, *, sums: int) -> dict[str, float]:
    """Look after every shard until all is stored; CPU an update."""
    shard = Shard(KafkaLog(settings), role_key("shard"), range(PARTITIONS))
    shard.use_threads(ThreadPoolExecutor(MEASURERS))
    measured, stored, began_s = 0, 0, time.process_time()
    while stored < sums:
        shard.step(0.05)
        counts = shard.take_counts()
        if not measured and counts.measured:
            sys.stdout.write("at work\n")
            sys.stdout.flush()
        measured, stored = measured + counts.measured, stored + counts.stored
    return {"cpu_ms": 1000 * (time.process_time() - began_s) / updates, "peak_mb": peak_mb()}


def main() -> None:
    """The child."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--child")
    parser.add_argument("--updates", type=int)
    parser.add_argument("--sums", type=int)
    asked, _ = parser.parse_known_args()
    settings = KafkaSettings(**json.loads(asked.child))
    sys.stdout.write(json.dumps(work(settings, asked.updates + WARM, sums=asked.sums)) + "\n")
    sys.stdout.flush()
    os._exit(0)  # its threads wait for more


if __name__ == "__main__":
    main()
