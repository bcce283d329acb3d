"""Robust rules in the bench: one round beside ByzFL on the same vectors, and the aggregator with many more at work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.bench.measures import ingest
from tests.bench.measures.robust.one_round import RULES
from tests.bench.row import Bench, Row, median, ratios
from tests.trials.results import ROOT

NAME = "robust"
PARAMETERS, MEMBERS, MEMORY_MB_MAX = 1_000_000, 100, 600
BYZFL = ROOT / "build" / "byzfl" / "python"
# As many updates under way as ten rounds and a hundred have; the model is small, so that the log holds them.
CROWDS, K, SMALL = (10, 100), 100, 2_410


def rows(bench: Bench) -> Iterator[Row]:
    """A row a rule and library, and a row for each crowd; the ratio is ByzFL's CPU through ours."""
    parameters, members = (10_000, 20) if bench.quick else (PARAMETERS, MEMBERS)
    for rule in RULES:
        libraries = ("numpy", "torch") if BYZFL.exists() and not bench.quick else ()
        ours = [_child(rule, "ours", parameters, members) for _ in range(bench.runs)]
        told = {"what": "round", "rule": rule, "members": members, "peak_mb": max(each["peak_mb"] for each in ours)}
        told |= {"wall_ms": median([each["wall_ms"] for each in ours])}
        cpu_ms = [each["cpu_ms"] for each in ours]
        plain = Row(name=NAME, params=parameters, codec="int8", cpu_ms_per_update=median(cpu_ms), more=told)
        if not libraries:
            yield plain
        for library in libraries:
            found = [_child(rule, library, parameters, members) for _ in range(bench.runs)]
            theirs = [each["cpu_ms"] for each in found]
            peer = {"peer_cpu_ms": median(theirs), "peer_mb": max(each["peak_mb"] for each in found)}
            yield Row(
                name=NAME,
                params=parameters,
                codec="int8",
                cpu_ms_per_update=median(cpu_ms),
                peer=f"byzfl {library}",
                **ratios(theirs, cpu_ms),
                more={**told, **peer},
            )
    for crowd in CROWDS[: 1 if bench.quick else None]:
        yield from _flood(bench, crowd)


def _flood(bench: Bench, crowd: int) -> Iterator[Row]:
    """The real aggregator, with so many times K updates waiting in its topic."""
    for rule in ("mean", "trimmed_mean"):
        members = 10 if bench.quick else K
        case = ingest.Case(
            parameters=SMALL, codec="int8", updates=crowd * members, updates_per_round=members, rule=rule
        )
        found = [ingest.measure(case, bench.broker) for _ in range(1 if bench.quick else min(3, bench.runs))]
        wall_ms = median([each["wall_ms"] for each in found])
        yield Row(
            name=NAME,
            params=SMALL,
            codec="int8",
            updates_per_s=round(1000 / wall_ms, 1),
            cpu_ms_per_update=median([each["cpu_ms"] for each in found]),
            more={"what": "crowd", "rule": rule, "times": crowd, "peak_mb": max(each["peak_mb"] for each in found)},
        )


def _child(rule: str, library: str, parameters: int, members: int) -> dict[str, Any]:
    words = ("--rule", rule, "--library", library, "--parameters", str(parameters), "--members", str(members))
    command = (sys.executable, "-W", "ignore", "-m", "tests.bench.measures.robust.one_round", *words)
    # One thread each: threads of BLAS that wait for each other on a busy machine use ten times the CPU.
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # ByzFL lies in a folder of its own, and only its own processes see it.
    env |= {} if library == "ours" else {"PYTHONPATH": str(BYZFL)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
