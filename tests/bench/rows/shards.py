"""A million parameters in shards: what is left on the aggregator's core, and what the shard workers do instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.bench.measures import ingest, sharding
from tests.bench.row import Bench, Row, median, ratios

NAME = "shards"
SHARDS = (1, 2, 4, 8)
PARAMETERS, CODEC = 1_000_000, "int8"
UPDATES, K = 380, 400  # one round, with those that are taken before the clock starts


def rows(bench: Bench) -> Iterator[Row]:
    """One row a number of shards; the ratio is the aggregator's CPU without shards through that with them."""
    parameters = 20_000 if bench.quick else PARAMETERS
    many, size = (20, 20) if bench.quick else (UPDATES, K)
    found: dict[int, list[dict[str, Any]]] = {shards: [] for shards in SHARDS[: 2 if bench.quick else None]}
    for _ in range(bench.runs):
        for shards, runs in found.items():
            case = ingest.Case(parameters=parameters, codec=CODEC, updates=many, updates_per_round=size, shards=shards)
            measured = ingest.measure if shards == 1 else sharding.measure
            runs.append(measured(case, bench.broker))
    alone = [each["cpu_ms"] for each in found[1]]
    for shards, runs in found.items():
        cpu_ms = [each["cpu_ms"] for each in runs]
        yield Row(
            name=NAME,
            params=parameters,
            codec=CODEC,
            cpu_ms_per_update=median(cpu_ms),
            updates_per_s=median([1000 / each["wall_ms"] for each in runs]),
            peer="one shard" if shards > 1 else "",
            **(ratios(alone, cpu_ms) if shards > 1 else {}),
            more={
                "shards": shards,
                "peak_mb": median([each["peak_mb"] for each in runs]),
                "shard_cpu_ms": median([each.get("shard_cpu_ms", 0.0) for each in runs]),
                "shard_peak_mb": median([each.get("shard_peak_mb", 0.0) for each in runs]),
            },
        )
