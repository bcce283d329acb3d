"""The aggregator's memory with a large model: sums are kept, bodies are not."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pytest

from schemas.tensors import encode_update
from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import PLAIN_ACTORS, Worker, say, staged

TASK = "large"
PARAMETERS = 1_000_000
RSS_BYTES_MAX = 500 * 10**6
K = 100


@dataclass(slots=True)
class Watch:
    """The largest resident set that a worker's child was ever seen with."""

    peak_bytes: int = 0
    samples: int = 0
    pids: set[int] = field(default_factory=set)

    def look(self, worker: Worker) -> None:
        """Measure it now."""
        child = worker.child()
        if child is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.peak_bytes = max(self.peak_bytes, child.memory_info().rss, _high_water_bytes(child.pid))
                self.pids.add(child.pid)
                self.samples += 1


def _high_water_bytes(pid: int) -> int:
    """What the kernel remembers as the largest resident set, where it tells; else 0."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def watched(worker: Worker) -> Iterator[Watch]:
    """Measure a worker throughout."""
    watch, ending = Watch(), threading.Event()

    def run() -> None:
        while not ending.wait(0.05):
            watch.look(worker)

    thread = threading.Thread(target=run, name="memory-watch")
    thread.start()
    try:
        yield watch
    finally:
        ending.set()
        thread.join()


@pytest.mark.timeout(300)
def test_a_million_parameters_and_a_hundred_updates(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """RSS of the aggregator stays under 500 MB over two rounds of K = 100 updates of a 1M-parameter model."""
    rules = policy(
        selection={"devices_expected": 130, "concurrency": 130, "retry_after_s": 0.5, "lease_s": 300.0},
        aggregation={"updates_per_round": K},
        clipping={"norm": 1.0},
        compression={"codec": "int8"},
        stop={"versions_max": 2},
    )
    rng = np.random.default_rng(1)
    deltas = [(rng.standard_normal(PARAMETERS, np.float32) * np.float32(1e-3)) for _ in range(4)]
    bodies = tuple(encode_update(delta, rules) for delta in deltas)
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, rules, parameters=PARAMETERS)
        workers = stage.start(*PLAIN_ACTORS)
        aggregator = next(worker for worker in workers if worker.actor == "aggregator")
        with watched(aggregator) as watch:
            stage.until_version(TASK, 0)
            began_s = time.monotonic()
            habits = Habits(inline=0.0, rest_s=0.2)
            with Fleet(kafka_settings, TASK, rules, PARAMETERS, 125, habits=habits, bodies=bodies):
                stage.until_version(TASK, 2, timeout_s=150)
        say(f"peak RSS {watch.peak_bytes / 1e6:.0f} MB in {watch.samples} samples, {time.monotonic() - began_s:.1f} s")
        assert watch.samples > 0
        assert len(watch.pids) == 1, stage.tails()
        assert watch.peak_bytes < RSS_BYTES_MAX
        stage.until_lawful(home_of(TASK), sums=False)
