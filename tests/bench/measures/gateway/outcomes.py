"""What an aggregator remembers: `python -m tests.bench.measures.gateway.outcomes [updates]`, into outcomes.jsonl.

The decider's state alone, folded from as many refusals, which leave an outcome and nothing else: bytes in memory and in
a snapshot, and what folding, a digest and a restart cost.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from typing import Any

import psutil

from actors.deciders.aggregator_state import Rounds, evolve
from actors.deciders.decider import digest
from schemas.canonical import decode_state, encode_state
from schemas.events import Noticed, RoundOpened, UpdateRefused
from tests.trials.results import add_row
from tests.worlds.builders import TASK, lease_id, model_published, task_created

NOW_MS = 1_700_000_000_000
AT_ONCE = 10_000


def measure(updates: int) -> dict[str, Any]:
    """One row."""
    state = Rounds()
    for event in (Noticed(fact=task_created()), model_published(), RoundOpened(task=TASK, round=0)):
        evolve(state, event, NOW_MS)
    beside = len(encode_state(state))
    gc.collect()
    before = psutil.Process().memory_info().rss
    seconds = sum(_fold(state, first, min(AT_ONCE, updates - first)) for first in range(0, updates, AT_ONCE))
    gc.collect()
    held = psutil.Process().memory_info().rss - before
    row = {"name": "outcomes", "updates": updates, "bytes_each": round(held / updates, 1)}
    return row | {"fold_us_each": round(1e6 * seconds / updates, 2)} | _snapshot(state, updates, beside)


def _fold(state: Rounds, first: int, count: int) -> float:
    """Seconds of CPU."""
    made = [
        UpdateRefused(
            task=TASK, update=lease_id(first + number), device=f"d{number}", reason="stale", deadline_ms=NOW_MS + number
        )
        for number in range(count)
    ]
    began = time.process_time()
    for event in made:
        evolve(state, event, NOW_MS)
    return time.process_time() - began


def _snapshot(state: Rounds, updates: int, beside: int) -> dict[str, float]:
    began = time.process_time()
    stated = digest(state)
    digest_s = time.process_time() - began
    data = encode_state(state)
    began = time.process_time()
    restored = decode_state(data, Rounds)
    restore_s = time.process_time() - began
    assert digest(restored) == stated
    each = round((len(data) - beside) / updates, 1)
    return {"snapshot_bytes_each": each, "digest_s": round(digest_s, 3), "restore_s": round(restore_s, 3)}


if __name__ == "__main__":
    row = measure(*map(int, sys.argv[1:])) if sys.argv[1:] else measure(1_000_000)
    add_row("outcomes", row)
    sys.stdout.write(json.dumps(row) + "\n")
