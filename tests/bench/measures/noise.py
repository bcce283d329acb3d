"""What the noise of one release costs, beside a plain search for each draw and, where it is there, a loop in numba.

All draw the same bits from the same tables; a peer that did not would end the measurement.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from actors.deciders.arithmetic import noise
from schemas.events import RoundProposed
from schemas.tensors import Grid
from tests.bench.row import Bench, Row, median, ratios
from tests.worlds.builders import mechanism, policy, round_proposed

NAME = "noise"
PARAMETERS = 1_000_000
AIM_MS = 60  # of CPU
KEY = b"n" * 32
Count = Callable[[noise.Table, noise.Words], Grid]


def rows(bench: Bench) -> Iterator[Row]:
    """A row a peer; pairs are drawn one after the other, and a first one before the clock starts."""
    parameters = 100_000 if bench.quick else PARAMETERS
    proposal = propose(policy(privacy={"noise_multiplier": 1.0, "rho_max": 50.0, "delta": 1e-5}))
    for peer, count in {"plain search": search_each, "numba": compile_walk()}.items():
        if count is None:
            continue
        ours, theirs = [], []
        for _ in range(1 + 3 * bench.runs):
            drawn, ours_ms = clock(lambda: noise.draw(KEY, proposal, parameters=parameters))
            again, theirs_ms = clock(lambda count=count: draw_by(count, proposal, parameters=parameters))
            if not np.array_equal(drawn, again):
                raise SystemExit(f"{peer} draws something else")
            ours.append(ours_ms)
            theirs.append(theirs_ms)
        yield Row(
            name=NAME,
            params=parameters,
            cpu_ms_per_update=median(ours[1:]),
            peer=peer,
            **ratios(theirs[1:], ours[1:]),
            more={"peer_cpu_ms": median(theirs[1:]), "rungs": len(noise.ladder(proposal.mechanism.sigma))},
        )


def propose(rules: Any) -> RoundProposed:
    """A round whose noise has a sigma of 2^36 grid units, and so four rungs."""
    return round_proposed(4, mechanism=msgspec.structs.replace(mechanism(rules), sigma=1 << 36))


def clock(call: Callable[[], Grid]) -> tuple[Grid, float]:
    """What a call gives, and its milliseconds of CPU in all threads."""
    began_s = time.process_time()
    found = call()
    return found, 1000 * (time.process_time() - began_s)


def draw_by(count: Count, proposal: RoundProposed, *, parameters: int) -> Grid:
    """The same noise, a whole rung at a time, with another way to count thresholds."""
    assert proposal.mechanism is not None
    seed = noise.derive_seed(KEY, proposal)
    total = np.zeros(parameters, np.int64)
    for rung, variance in enumerate(noise.ladder(proposal.mechanism.sigma)):
        table = noise.make_table(variance)
        high = noise.read_words(noise.start_stream(seed, 2 * rung), parameters) >> np.uint64(1)
        total += (count(table, high) + table.lowest) << (9 * rung)
    return total


def search_each(table: noise.Table, high: noise.Words) -> Grid:
    """A binary search for each draw; the last 64 bits decide about once in 2^46 draws, and not in these."""
    return np.searchsorted(table.high, high, side="left")


def compile_walk() -> Count | None:
    """A walk from the first threshold of each place on, compiled; None without numba, which fedlog does not need."""
    try:
        import numba  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None

    @numba.njit
    def walk(high: Any, thresholds: Any, first: Any, shift: Any) -> Any:
        found = np.empty(high.size, np.int64)
        for i in range(high.size):
            at = first[high[i] >> shift]
            while at < thresholds.size and thresholds[at] < high[i]:
                at += 1
            found[i] = at
        return found

    def count(table: noise.Table, high: noise.Words) -> Grid:
        edges = np.arange(1 << 16, dtype=np.uint64) << np.uint64(47)
        first = np.searchsorted(table.high, edges, side="left")
        drawn: Grid = walk(high, table.high, first, np.uint64(47))
        return drawn

    return count
