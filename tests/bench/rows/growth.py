"""CPU and memory against K, parameters, devices and the length of the log; none may grow worse than linearly."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import log
from typing import Any

from tests.bench.measures import ingest
from tests.bench.row import Bench, Row, median
from tests.trials.results import ROOT

NAME = "growth"
SMALL = 2_410  # parameters where something else grows
CURVES = {
    "K": (10, 100, 1_000, 10_000),
    "parameters": (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
    "devices": (100, 1_000, 10_000, 100_000, 1_000_000),
    "log": (1_000, 10_000, 100_000, 1_000_000),
}
RUNS = {"K": 3, "parameters": 3, "devices": 3, "log": 1}
# CPU is counted an update (a device, a decision), so that linear in all is 0; a body has a cost for each parameter.
EXPONENT_MAX = {"K": 0.1, "parameters": 1.1, "devices": 0.1, "log": 0.1}
QUICK = 2  # points of each curve


def rows(bench: Bench) -> Iterator[Row]:
    """A row a point; `exponent` is the slope between it and the point before on log axes: 1 is linear."""
    for curve, points in CURVES.items():
        cost: dict[int, float] = {}
        for at in points[: QUICK if bench.quick else None]:
            found = [_point(bench, curve, at) for _ in range(1 if bench.quick else RUNS[curve])]
            cost[at] = statistics.median(each["cpu_ms"] for each in found)
            yield Row(
                name=NAME,
                params=at if curve == "parameters" else SMALL,
                codec="int8" if curve in {"K", "parameters"} else "",
                cpu_ms_per_update=median([cost[at]]),
                more={
                    "against": curve,
                    "at": at,
                    "peak_mb": median([each["peak_mb"] for each in found]),
                    "exponent": slope(cost),
                },
            )


def slope(cost: dict[int, float]) -> float | None:
    """The growth from the point before to the last one; None at the first point."""
    steps = [log(cost[b] / cost[a]) / log(b / a) for a, b in pairwise(cost)]
    return round(steps[-1], 2) if steps else None


def _point(bench: Bench, curve: str, at: int) -> dict[str, Any]:
    if curve == "K":
        many = 200 if bench.quick else max(at, 2_000)
        case = ingest.Case(parameters=SMALL, codec="int8", updates=many, updates_per_round=at)
        return ingest.measure(case, bench.broker)
    if curve == "parameters":
        case = ingest.Case(parameters=at, codec="int8", updates=_updates(at))
        return ingest.measure(case, bench.broker)
    return _child(curve, str(at))


def _updates(parameters: int) -> int:
    """As many as are read in a moment, and never more than a broker on a laptop can hold."""
    return max(20, min(500, 100_000_000 // parameters))


def _child(*words: str) -> dict[str, Any]:
    command: Sequence[str] = (sys.executable, "-m", "tests.bench.measures.growth", *words)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
