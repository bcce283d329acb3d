"""One point of a curve, in a process of its own, so that its peak of memory is its own.

python -m tests.bench.measures.growth devices 100000      CPU of decisions on check-ins, and memory, of a selector
python -m tests.bench.measures.growth log 100000          CPU of folding a journal of so many decisions again
"""

from __future__ import annotations

import json
import sys
import time

from tests.bench.machine import peak_mb
from tests.bench.measures import replay, selection


def devices(count: int) -> dict[str, float]:
    """The selector's CPU a lease (grant and use) while so many devices make themselves known, and its peak."""
    began = time.process_time()
    state = selection.registered(count)
    seconds = time.process_time() - began
    assert len(state.tasks) == 1
    return {"cpu_ms": 1000 * seconds / count}


def log(decisions: int) -> dict[str, float]:
    """The aggregator's CPU a decision when its journal is folded again, as after a restart."""
    world = replay.story(decisions)
    began = time.process_time()
    folded = world.opened("aggregator").opened.decisions
    return {"cpu_ms": 1000 * (time.process_time() - began) / folded, "decisions": folded}


if __name__ == "__main__":
    kind, number = sys.argv[1:]
    found = {"devices": devices, "log": log}[kind](int(number))
    found["peak_mb"] = peak_mb()
    sys.stdout.write(json.dumps(found) + "\n")
