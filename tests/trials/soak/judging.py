"""Which growth is lawful, figure by figure, and why: no trend but the log's and what the policy bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from ops.processes.broker import HEAP_MB
from tests.trials.soak.sampling import Sample
from tests.trials.soak.trends import find_trend
from tests.worlds.deployment.product import BROKER, WORKERS

# Of each check-in and update something is put into lists, sets and maps. What stays there costs at least so much.
LEAKED_BYTES = 200
# Below it a figure cannot be told from what allocators and collectors do by themselves.
MEMORY_LEAST_MIB_H = 8.0
# An actor remembers outcomes until ten minutes past their deadline, and deletes what newer versions replace every ten
# minutes: until then its memory fills by right, in each of its lives.
FILLED_S = 660.0
# One thread or handle that stays with every tenth kill: with a kill a minute, six an hour.
LEFT_PER_KILL = 0.1
# Of a hundred records that come in not one may stay behind.
LAG_SHARE = 0.01
# What is written beside a record of the log, in bytes on the disk for each of the log's.
DISK_SHARES = {"history": 3.0, "broker beside the log": 0.5, "what processes log": 0.25, "gateway": 0.1}
DISK_LEAST_MIB_H = 2.0
# In all, where a pool grows to a limit that is set, of which no run sees the end: the heap of the broker's Java, and
# what Java needs beside it; DuckDB's memory, beside Python with all its modules; the 64 MiB of answers that a gateway
# keeps, twice that with their names.
CEILINGS_MIB = {
    (BROKER, "memory"): HEAP_MB + 350.0,
    ("serve", "memory"): 600.0,
    ("gateway", "memory"): 300.0,
}
# An outbox names each lease until an hour after its end, in both copies of its index, 43 bytes a name; of check-ins and
# updates every second one is a lease.
OUTBOX_BYTES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the run brought, an hour: records of the log, those of devices, bytes on the disk, kills."""

    records_h: float
    inputs_h: float
    log_mib_h: float
    kills_h: float


def judge(samples: Sequence[Sample], load: Load) -> list[dict[str, Any]]:
    """A row for each part and figure: what it was, how it grows, by how much it may, and the verdict."""
    found: dict[tuple[str, str], dict[float, list[tuple[float, float]]]] = {}
    for each in samples:
        if each.figure == "memory" and each.part in WORKERS and each.at_s - max(each.life, 0.0) < FILLED_S:
            continue
        lives = found.setdefault((each.part, each.figure), {})
        lives.setdefault(each.life, []).append((each.at_s - max(each.life, 0.0), each.value))
    return [_judge_one(*key, lives=lives, load=load) for key, lives in sorted(found.items())]


def _judge_one(part: str, figure: str, *, lives: dict[float, list[tuple[float, float]]], load: Load) -> dict[str, Any]:
    values = [value for life in lives.values() for _, value in life]
    row: dict[str, Any] = {
        "part": part,
        "figure": figure,
        "lives": len(lives),
        "median": round(median(values), 1),
        "most": round(max(values), 1),
    }
    trend = find_trend(lives.values())
    if trend is not None:
        row |= {name: round(getattr(trend, name), 3) for name in ("slope", "low", "high", "hours")}
    if (ceiling := CEILINGS_MIB.get((part, figure))) is not None:
        return {**row, "ceiling": ceiling, "verdict": "bounded" if row["most"] <= ceiling else "grows"}
    bound = find_bound(part, figure, load=load)
    if bound is None:
        return {**row, "verdict": "the log's" if part == "log" else "shown"}
    return {**row, "bound": round(bound, 2), "verdict": "too short" if trend is None else trend.judge(bound)}


def find_bound(part: str, figure: str, *, load: Load) -> float | None:
    """How much a figure may grow an hour; None where it is shown and not judged."""
    match figure:
        case "memory":
            return max(MEMORY_LEAST_MIB_H, load.inputs_h * LEAKED_BYTES / 2**20)
        case "threads" | "handles":
            return LEFT_PER_KILL * load.kills_h
        case "lag":
            return LAG_SHARE * load.inputs_h
        case "disk" if part.startswith("fleet-"):
            return max(DISK_LEAST_MIB_H, load.inputs_h * OUTBOX_BYTES / 2**20)
        case "disk" if part != "log":
            return max(DISK_LEAST_MIB_H, DISK_SHARES.get(part, 0.0) * load.log_mib_h)
    return None
