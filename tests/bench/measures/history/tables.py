"""What a history costs, each in a process of its own, called by `tests.bench.rows.history`.

build FOLDER FILE                 the tables of an export: CPU of one core, and the peak of memory
follow SETTINGS FILE UPDATES      how long events of a broker take into the tables, until so many updates are there
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ops.history.tables.duckdb_file import HistoryFile
from ops.history.tables.facts import Columns
from ops.history.tables.projector import Mark, Viewer
from ops.history.tables.syncing import make_identity, sync
from streams.exported import ExportedLog
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition
from tests.bench.machine import peak_mb
from tests.worlds.builders import KEY

VIEWER = Viewer(operator=KEY.public_key, deployment=None, is_operator=True)


class TimedFile(HistoryFile):
    """Notes how long each row took from its append until it can be asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, identity=make_identity(VIEWER))
        self.waits_ms: list[int] = []

    def write(self, facts: Mapping[str, Sequence[Columns]], marks: Mapping[TopicPartition, Mark]) -> None:
        """Store, then look at the clock."""
        super().write(facts, marks)
        now_ms = time.time_ns() // 1_000_000
        self.waits_ms += [now_ms - at_ms for parts in facts.values() for part in parts for at_ms in part["at_ms"]]


def build(folder: str, file: str) -> dict[str, float]:
    """All of an export into a new file."""
    # One core is what the figure is about: DuckDB would take as many as there are.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    log, path = ExportedLog(Path(folder)), Path(file)
    with closing(HistoryFile(path, identity=make_identity(VIEWER))) as history:
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        rows = sync(log, history, viewer=VIEWER).rows
        seconds = {"wall_s": time.monotonic() - began_s, "cpu_s": time.process_time() - began_cpu_s}
    return {"rows": rows, **seconds, "peak_mb": peak_mb(), "file_mb": path.stat().st_size / 1e6}


def follow(settings: str, file: str, updates: str) -> dict[str, float]:
    """Follow a broker; the first second is left out, in which the reader is made."""
    stop = threading.Event()
    with (
        closing(KafkaLog(KafkaSettings(**json.loads(settings)))) as log,
        closing(TimedFile(Path(file))) as history,
    ):

        def judge(_: object) -> None:
            [(found,)] = history.ask("SELECT count(*) FROM facts.update_admitted").rows
            if found >= int(updates):
                stop.set()

        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sync(log, history, viewer=VIEWER, stop=stop, on_progress=judge)
    p50, p99 = np.percentile(history.waits_ms, (50, 99))
    return {"events": len(history.waits_ms), "p50_ms": p50, "p99_ms": p99, "max_ms": max(history.waits_ms)}


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    kinds: dict[str, Any] = {"build": build, "follow": follow}
    sys.stdout.write(json.dumps(kinds[kind](*rest)) + "\n")
