"""Masked sums in the bench: one round beside Flower's SecAgg+, and what a device does to its update in each codec."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.bench import peer
from tests.bench.measures.masking.device import CODECS, measure
from tests.bench.row import Bench, Row, median, ratios
from tests.trials.results import ROOT

NAME = "masking"
CLIENTS, DROPPED = 100, (10, 30, 50)
# Sizes, and how many pairs of each at most: a round of SecAgg+ takes minutes of processor time at the larger one.
SIZES = {100_000: 3, 1_000_000: 1}
# So many shares that half of all may go; fewer are cheaper, and lose the round.
SHARES, THRESHOLD = 51, 13
ENVIRONMENT = "flower-apps"
DEVICE_AIM_MS, HELPER_AIM_S = 10.0, 0.2
FIGURES = ("device_cpu_ms", "helper_cpu_s", "server_cpu_s", "sum_s", "up_bytes")


def rows(bench: Bench) -> Iterator[Row]:
    """A row a size and share of devices that drop out, and one a codec; the ratio is the peer's CPU of a device."""
    sizes = {10_000: 1} if bench.quick else SIZES
    for parameters, pairs in sizes.items():
        for dropped in DROPPED:
            yield _pair(parameters, dropped, pairs=min(pairs, bench.runs), is_quick=bench.quick)
    for codec in CODECS:
        found = measure(codec, 10_000 if bench.quick else 1_000_000, repeats=1 if bench.quick else 5)
        whole = sum(found.values())
        more = {"what": "device", **{name: median([value]) for name, value in found.items()}}
        yield Row(
            name=NAME,
            params=10_000 if bench.quick else 1_000_000,
            codec=codec,
            cpu_ms_per_update=median([whole]),
            more=more,
        )


def _pair(parameters: int, dropped: int, *, pairs: int, is_quick: bool) -> Row:
    ours, theirs = [], []
    for _ in range(pairs):
        ours.append(_measure_ours(parameters, CLIENTS, dropped))
        if not is_quick:
            words = map(str, (parameters, CLIENTS, dropped, SHARES, THRESHOLD))
            theirs.append(peer.run("flower_secagg.py", *words, environment=ENVIRONMENT))
    for each in (*ours, *theirs):
        assert each["is_right"], each
    told: dict[str, Any] = {"what": "round", "clients": CLIENTS, "dropped": dropped, "shares": SHARES}
    told |= {name: median([each[name] for each in ours]) for name in (*FIGURES, "helper_bytes")}
    told |= {
        f"peer_{name}": median([each[name] for each in theirs]) for name in FIGURES if theirs and name in theirs[0]
    }
    device_ms = [each["device_cpu_ms"] for each in ours]
    compared = ratios([each["device_cpu_ms"] for each in theirs], device_ms) if theirs else {}
    return Row(
        name=NAME,
        params=parameters,
        codec="ring32",
        cpu_ms_per_update=median(device_ms),
        peer="flower secagg+" if theirs else "",
        **compared,
        more=told,
    )


def _measure_ours(parameters: int, clients: int, dropped: int) -> dict[str, Any]:
    words = ("-m", "tests.bench.measures.masking.one_round", *map(str, (parameters, clients, dropped)))
    command = (sys.executable, "-W", "ignore", *words)
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
