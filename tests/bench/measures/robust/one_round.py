"""One round under a robust rule, in a process of its own: memory, and CPU of all threads.

    python -m tests.bench.measures.robust.one_round --rule median --library ours --parameters 1000000 --members 100

`ours` opens int8 bodies, clips and keeps them, and compares; `numpy` and `torch` are ByzFL on the same vectors, which
lie in memory (`make byzfl` installs it), float32 as it comes from devices.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from actors.effects.aggregator.summation import KeptVectors
from schemas.policy import Policy
from schemas.tensors import Floats, clipping, encode_update, from_grid, read_update
from tests.bench.machine import peak_mb
from tests.worlds.builders import policy

RULES = ("median", "trimmed_mean", "krum", "multi_krum", "centered_clipping")
F, RADIUS, ITERATIONS = 20, 0.1, 3
MADE = 8  # bodies that differ; each member is one of them, with a sign of its own


def make_policy(rule: str, *, members: int, codec: str = "int8") -> Policy:
    """A task whose rounds have so many members, a fifth of which may be anybody's."""
    f = members * F // 100
    asked = {"attackers_max": f, "selected": members - f - 2, "radius": RADIUS, "iterations": ITERATIONS}
    return policy(
        selection={"devices_expected": 10 * members, "concurrency": members},
        aggregation={"updates_per_round": members, "rule": rule},
        robust=asked,
        clipping={"norm": 1.0},
        compression={"codec": codec},
    )


def make_bodies(rules: Policy, parameters: int) -> list[bytes]:
    """Updates as devices send them."""
    draw, scale = np.random.default_rng(1), np.float32(0.9 / np.sqrt(parameters))
    return [encode_update(draw.standard_normal(parameters, np.float32) * scale, rules) for _ in range(MADE)]


def run_ours(rules: Policy, bodies: list[bytes], *, parameters: int, members: int) -> Callable[[], Any]:
    """From bodies to the location."""

    def measure() -> Any:
        kept = KeptVectors(rules, parameters)
        for number in range(members):
            quanta = read_update(bodies[number % MADE], rules, parameters=parameters)
            scale = clipping.clip_scale(quanta, rules.clipping.steps)
            kept.add(quanta, update=f"{number:032x}", weight=1 << 20, scale=scale)
        return kept.total()

    return measure


def run_theirs(rules: Policy, vectors: list[Floats], *, members: int, is_torch: bool) -> Callable[[], Any]:
    """ByzFL's rule of the same meaning, on vectors that lie in memory."""
    # Here, because the process that measures ours has no torch, whose import alone takes 400 MB.
    import torch

    from tests.trials.robustness.oracle import load_byzfl

    byzfl, f = load_byzfl(), members * F // 100
    rows: Any = np.array([vectors[number % MADE] for number in range(members)], np.float32)
    rule = {
        "median": byzfl.Median,
        "trimmed_mean": lambda: byzfl.TrMean(f),
        "krum": lambda: byzfl.Krum(f + 1),
        "multi_krum": lambda: byzfl.MultiKrum(f + 1),
        "centered_clipping": lambda: byzfl.CenteredClipping(L=ITERATIONS, tau=RADIUS),
    }[rules.aggregation.rule]()
    torch.set_num_threads(1)
    given = torch.from_numpy(rows) if is_torch else rows
    return lambda: rule(given)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rule", choices=RULES, required=True)
    parser.add_argument("--library", choices=("ours", "numpy", "torch"), default="ours")
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=100)
    asked = parser.parse_args()
    rules = make_policy(asked.rule, members=asked.members)
    bodies = make_bodies(rules, asked.parameters)
    before_mb = peak_mb()
    if asked.library == "ours":
        measure = run_ours(rules, bodies, parameters=asked.parameters, members=asked.members)
    else:
        opened = [read_update(body, rules, parameters=asked.parameters) for body in bodies]
        vectors = [from_grid(clipping.clip(each, clipping.SCALE_ONE), rules.clipping) for each in opened]
        measure = run_theirs(rules, vectors, members=asked.members, is_torch=asked.library == "torch")
    began_s, began_wall_s = time.process_time(), time.monotonic()
    measure()
    cpu_s, wall_s = time.process_time() - began_s, time.monotonic() - began_wall_s
    told = {"cpu_ms": 1000 * cpu_s / asked.members, "wall_ms": 1000 * wall_s / asked.members}
    sys.stdout.write(json.dumps({**told, "peak_mb": peak_mb(), "before_mb": before_mb}) + "\n")


if __name__ == "__main__":
    main()
