"""A thousand tasks on 8 and on 64 partitions: how long an input waits for its decision, also while a worker joins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from schemas.topics import PARTITIONS_DEFAULT
from tests.bench.measures.many_tasks import ACTORS, DEVICES, PARAMETERS, WORKERS, Decided, Found, Load, run
from tests.bench.row import Bench, Row, figure

NAME = "tasks"
LOADS = [
    Load(tasks=1_000, partitions=partitions, period_s=32.0, versions=3, goes_on_s=30.0)
    for partitions in (PARTITIONS_DEFAULT, 64)
]
QUICK = Load(tasks=24, partitions=PARTITIONS_DEFAULT, period_s=2.0, versions=3, goes_on_s=3.0)
STEADY, WHOLE = "steady load", "the move included"
CURVE_STEP_S = 2


def rows(bench: Bench) -> Iterator[Row]:
    """For each number of partitions one row for the move and the curve; then one a time and an actor."""
    for load in [QUICK] if bench.quick else LOADS:
        yield from _measure(bench, load)


def _measure(bench: Bench, load: Load) -> Iterator[Row]:
    found = run(bench, load)
    yield Row(name=NAME, params=PARAMETERS, codec="int8", more=_told(load, found))
    for when, end_ms in ((STEADY, found.join_ms), (WHOLE, found.end_ms)):
        for actor in ACTORS:
            mine = [each for each in _within(found, found.begin_ms, end_ms) if each.actor == actor]
            seconds = (end_ms - found.begin_ms) / 1000
            more = {"partitions": load.partitions, **_waits(mine, seconds, when=when, actor=actor)}
            yield Row(name=NAME, params=PARAMETERS, codec="int8", more=more)


def _told(load: Load, found: Found) -> dict[str, object]:
    return {
        "tasks": load.tasks,
        "partitions": load.partitions,
        "workers": WORKERS,
        "devices": load.tasks * DEVICES,
        "period_s": load.period_s,
        "versions": load.versions,
        "created_s": figure(found.created_s),
        "moved": {actor: len(partitions) for actor, partitions in found.moved.items()},
        "opened_anew": found.opened_anew,
        "still_s": figure(found.still_s(found.join_ms, found.end_ms)),
        "still_before_s": figure(found.still_s(found.begin_ms, found.join_ms)),
        "peak_mb": figure(found.peak_mb),
        "curve": _curve(found),
        "curve_join_s": figure((found.join_ms - found.begin_ms) / 1000),
    }


def _waits(decided: Sequence[Decided], seconds: float, *, when: str, actor: str) -> dict[str, object]:
    waits_ms = [each.waited_ms for each in decided]
    p50, p99 = np.percentile(waits_ms, (50, 99))
    return {
        "when": when,
        "actor": actor,
        "decisions": len(decided),
        "decisions_per_s": figure(len(decided) / seconds),
        "p50_ms": figure(p50),
        "p99_ms": figure(p99),
        "max_ms": max(waits_ms),
    }


def _within(found: Found, begin_ms: float, end_ms: float) -> list[Decided]:
    return [each for each in found.decided if begin_ms <= each.append_ms < end_ms]


def _curve(found: Found) -> list[tuple[int, float, float]]:
    """Seconds since the beginning, and p50 and p99 of the inputs appended in the seconds after; none without any."""
    curve = []
    for at_s in range(0, int((found.end_ms - found.begin_ms) / 1000), CURVE_STEP_S):
        begin_ms = found.begin_ms + 1000 * at_s
        waits_ms = [each.waited_ms for each in _within(found, begin_ms, begin_ms + 1000 * CURVE_STEP_S)]
        if waits_ms:
            p50, p99 = np.percentile(waits_ms, (50, 99))
            curve.append((at_s, figure(p50), figure(p99)))
    return curve
