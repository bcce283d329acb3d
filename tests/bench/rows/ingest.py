"""What an update costs the aggregator, stage by stage, and the share that it reaches of the floor."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from tests.bench.measures import ingest
from tests.bench.row import Bench, Row, median

NAME = "ingest"
UPDATES = 200
GATE, GATED = 0.6, (1_000_000, "int8")  # at least this share of the floor
AIM_MS = 3.6  # of CPU, there


def rows(bench: Bench) -> Iterator[Row]:
    """One row a size and codec; each run measures actor and floor one after the other in one process."""
    for parameters in ingest.SIZES[: 1 if bench.quick else None]:
        for codec in ingest.CODECS[: 1 if bench.quick else None]:
            case = ingest.Case(parameters=parameters, codec=codec, updates=10 if bench.quick else UPDATES)
            found = [ingest.measure(case, bench.broker) for _ in range(bench.runs)]
            floors = [each["fetch_ms"] + each["numpy_ms"] for each in found]
            shares = [floor / each["cpu_ms"] for floor, each in zip(floors, found, strict=True)]
            stages = {stage for each in found for stage in each["stages_ms"]}
            yield Row(
                name=NAME,
                params=parameters,
                codec=codec,
                updates_per_s=median([1000 / each["wall_ms"] for each in found]),
                cpu_ms_per_update=median([each["cpu_ms"] for each in found]),
                mb_per_s=median([each["body_bytes"] / each["wall_ms"] / 1000 for each in found]),
                share_of_floor=median(shares),
                peer="floor",
                ratio_median=median(shares),
                ratio_min=round(min(shares), 3),
                ratio_max=round(max(shares), 3),
                more={
                    "floor_ms": median(floors),
                    "wall_ms": median([each["wall_ms"] for each in found]),
                    "stages_ms": {
                        stage: round(statistics.median(each["stages_ms"].get(stage, 0.0) for each in found), 3)
                        for stage in sorted(stages)
                    },
                },
            )


def missed(row: Row) -> bool:
    """Whether this row is the one that a gate stands on, and below it."""
    return (row.params, row.codec) == GATED and row.name == NAME and (row.share_of_floor or 0) < GATE
