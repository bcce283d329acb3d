"""What a compiler would save of an update at the aggregator: exact norm, and clip and add, in numpy and in numba.

    python -m tests.bench.measures.floors.compiled       a million elements of int8; numba is no dependency of fedlog's

Processor time of one thread, the best of some repeats; both have to give the same bits. Beside it stands what no
compiler makes shorter: digest and decompression.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from actors.deciders.arithmetic.sums import RunningSum
from schemas.tensors import BLOCK, Quanta, clipping, decompress, encode_update, payload_bytes, read_update
from tests.bench.machine import find_cpu_ms
from tests.worlds.builders import policy

PARAMETERS, REPEATS = 1_000_000, 30
SCALE = clipping.SCALE_ONE - 36  # a little above the clip, as about half of all updates are


def measure() -> dict[str, float]:
    """Milliseconds of each step, and the seconds that numba takes before its first."""
    rules = policy(clipping={"norm": 1.0}, compression={"codec": "int8"})
    delta = np.random.default_rng(1).standard_normal(PARAMETERS, np.float32) / np.float32(PARAMETERS**0.5)
    body = encode_update(delta, rules)
    quanta = read_update(body, rules, parameters=PARAMETERS)
    total = RunningSum(PARAMETERS)
    found = {
        "digest_ms": find_cpu_ms(lambda: hashlib.sha256(body).digest(), repeats=REPEATS),
        "zstd_ms": find_cpu_ms(lambda: decompress(body, payload_bytes(rules.compression, PARAMETERS)), repeats=REPEATS),
        "norm_ms": find_cpu_ms(lambda: clipping.compute_squared_norm(quanta), repeats=REPEATS),
        "add_ms": find_cpu_ms(lambda: total.add(quanta, weight=1, scale=SCALE), repeats=REPEATS),
    }
    return {**found, **_measure_compiled(quanta)}


def _measure_compiled(quanta: Quanta) -> dict[str, float]:
    began_s = time.process_time()
    compiled = compile_both()
    if compiled is None:
        return {}
    norm, add = compiled
    part, given = np.zeros(PARAMETERS, np.int32), (quanta.values, quanta.multipliers)
    assert norm(*given) == clipping.compute_squared_norm(quanta)
    add(part, *given, SCALE / clipping.SCALE_ONE)
    compile_s = time.process_time() - began_s
    assert np.array_equal(part, clipping.clip(quanta, SCALE))
    return {
        "compile_s": compile_s,
        "numba_norm_ms": find_cpu_ms(lambda: norm(*given), repeats=REPEATS),
        "numba_add_ms": find_cpu_ms(lambda: add(part, *given, SCALE / clipping.SCALE_ONE), repeats=REPEATS),
    }


def compile_both() -> tuple[Callable[..., int], Callable[..., None]] | None:
    """Exact squared norm, and clip and add, one pass each; None without numba."""
    try:
        import numba  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None

    @numba.njit
    def norm(values: Any, multipliers: Any) -> int:
        total = 0
        for block in range(multipliers.size):
            squares = np.int32(0)
            for i in range(block * BLOCK, min((block + 1) * BLOCK, values.size)):
                squares += np.int32(values[i]) * np.int32(values[i])
            total += np.int64(squares) * multipliers[block] ** 2
        return total

    @numba.njit
    def add(part: Any, values: Any, multipliers: Any, scale: float) -> None:
        for block in range(multipliers.size):
            factor = multipliers[block] * scale
            for i in range(block * BLOCK, min((block + 1) * BLOCK, values.size)):
                part[i] += np.int32(values[i] * factor)

    return norm, add


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: round(value, 3) for name, value in measure().items()}) + "\n")
