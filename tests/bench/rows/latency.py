"""From the append of the last update that a round needed to the append of its ModelPublished, with and without DP."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.bench.measures.whole_loop import Loop, run, tireless
from tests.bench.row import Bench, Row, figure

NAME = "latency"
AIM_MS = 100
PRIVATE_AIM_MS = 200
K = 4
DEVICES = 8
TRAINING_MS = {2_410: 300.0, 1_000_000: 1_500.0}  # the machine is never busy with devices alone


def rows(bench: Bench) -> Iterator[Row]:
    """One row a size, without and with privacy."""
    for parameters, training_ms in list(TRAINING_MS.items())[: 1 if bench.quick else None]:
        for private in (False, True):
            loop = Loop(
                parameters=parameters,
                codec="int8",
                devices=DEVICES,
                updates_per_round=K,
                simulation=tireless(training_ms),
                private=private,
                processes=1,
            )
            found = run(bench, loop, versions=4 if bench.quick else 100)
            p50, p99 = np.percentile(found.release_ms, (50, 99))
            yield Row(
                name=NAME,
                params=parameters,
                codec="int8",
                updates_per_s=figure(found.updates_per_s),
                more={
                    "private": private,
                    "releases": len(found.release_ms),
                    "p50_ms": figure(p50),
                    "p99_ms": figure(p99),
                    "max_ms": max(found.release_ms),
                },
            )
