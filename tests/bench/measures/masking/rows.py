"""Masked sums in the bench: one round beside Flower's SecAgg+, a device in each codec, and the whole loop masked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.bench import peer
from tests.bench.measures.masking.device import CODECS, HELPERS, measure
from tests.bench.measures.whole_loop import Found, Loop, run
from tests.bench.row import Bench, Row, median, ratios
from tests.trials.results import ROOT

NAME = "masking"
CLIENTS, DROPPED = 100, (10, 30, 50)
# Sizes, and how many pairs of each at most: a round of SecAgg+ takes minutes of processor time at the larger one.
SIZES = {100_000: 3, 1_000_000: 1}
# So many shares that half of all may go; fewer are cheaper, and lose the round.
SHARES, THRESHOLD = 51, 13
ENVIRONMENT = "flower-apps"
PARTS = ("round", "device", "loop")
PLAIN = "plain float32"
# Of the whole loop: devices of each size, of which half fill a round.
LOOPS = {100_000: 50, 1_000_000: 50}
LOOP_SECONDS = 15.0
LOOP_AIM = 0.7
DEVICE_AIM_MS, HELPER_AIM_S = 10.0, 0.2
FIGURES = ("device_cpu_ms", "helper_cpu_s", "server_cpu_s", "sum_s", "up_bytes")


def rows(bench: Bench) -> Iterator[Row]:
    """The rows of each part, or of the one that is asked for."""
    for part, make in {"round": _list_rounds, "device": _list_devices, "loop": _list_loops}.items():
        if bench.part in ("", part):
            yield from make(bench)


def _list_rounds(bench: Bench) -> Iterator[Row]:
    """A row a size and share of devices that drop out; the ratio is the peer's CPU of a device."""
    sizes = {10_000: 1} if bench.quick else SIZES
    for parameters, pairs in sizes.items():
        for dropped in DROPPED:
            yield _pair(parameters, dropped, pairs=min(pairs, bench.runs), is_quick=bench.quick)


def _list_devices(bench: Bench) -> Iterator[Row]:
    """A row a codec."""
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


def _list_loops(bench: Bench) -> Iterator[Row]:
    """A row a size: the whole loop masked, by turns with the plain one at the same precision."""
    for parameters, devices in {10_000: 8}.items() if bench.quick else LOOPS.items():
        loop = Loop(parameters=parameters, codec="float32", devices=devices, updates_per_round=devices // 2)
        seconds = 2.0 if bench.quick else LOOP_SECONDS
        plain, masked = [], []
        for _ in range(bench.runs):
            plain.append(run(bench, loop, seconds=seconds))
            masked.append(run(bench, replace(loop, helpers=HELPERS), seconds=seconds))
        rates, plain_rates = ([each.updates_per_s for each in found] for found in (masked, plain))
        parts = {part for each in masked for part in each.cpu_of}
        yield Row(
            name=NAME,
            params=parameters,
            codec="ring32",
            updates_per_s=median(rates),
            cpu_ms_per_update=_tell_cpu_ms(masked),
            peer=PLAIN,
            **ratios(rates, plain_rates),
            more={
                "what": "loop",
                "plain_updates_per_s": median(plain_rates),
                "plain_cpu_ms": _tell_cpu_ms(plain),
                "cpu_ms_of": {part: _tell_cpu_ms(masked, part) for part in sorted(parts)},
                "plain_cpu_ms_of": {part: _tell_cpu_ms(plain, part) for part in sorted(parts)},
            },
        )


def _tell_cpu_ms(found: list[Found], part: str = "") -> float:
    """Of an update: all of it, or what one part of the system takes."""
    return median([1e3 * (each.cpu_of.get(part, 0.0) if part else each.cpu_s) / each.admitted for each in found])


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
