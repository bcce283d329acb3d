"""A simulated day of very many devices, through the real deciders: `make day DEVICES=1000000`.

Virtual time, no log, no signature, no vector: what is decided is all that is real. Each device checks in at random
moments, `CHECKINS_A_DAY` times a day on average, four times as often at the peak (two at night, on the charger) as at
the trough. A lease is trained for a half-normal time; 8 % of the leases are never heard of again. The selector, the
aggregator and the privacy budget learn from each other what their journals would tell them.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import psutil

from actors.deciders import aggregator
from actors.deciders.aggregator import ReleaseStored
from actors.deciders.aggregator_state import Round
from actors.deciders.decider import Decider
from actors.deciders.privacy_budget import PRIVACY_BUDGET
from actors.deciders.selector import SELECTOR
from schemas.events import (
    CheckinsDeclined,
    JournalEvent,
    LeaseClosed,
    LeaseGranted,
    ModelPublished,
    RoundCharged,
    Tick,
    UpdateAdmitted,
    UpdateRefused,
    UpdatesDeclined,
)
from schemas.policy import Policy, check_policy
from tests.bench.measures.trusting import TASK, check_in, task_of, update
from tests.bench.pages import day_page
from tests.trials.results import add_row
from tests.worlds.builders import NOISE, body_ref, policy

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS
BEGAN_MS = 1_700_000_000_000
CHECKINS_A_DAY = 4.0
SWING = 4.0
PEAK_HOUR = 2
DROP_OUT = 0.08
TRAINING_SIGMA_S = 200.0
RELEASE_MS = 2_000
TICK_MS = 10_000
READERS = {"selector": (), "aggregator": ("selector", "privacy"), "privacy": ("aggregator",)}


def rules(devices: int, updates_per_round: int = 1_000) -> Policy:
    """FedBuff with privacy: concurrency 1 % of the devices, at most eight participations each."""
    return check_policy(
        policy(
            selection={"devices_expected": devices, "concurrency": devices // 100, "lease_s": 600.0},
            aggregation={"updates_per_round": updates_per_round},
            privacy={"noise_multiplier": 4.0, "rho_max": 0.25, "delta": 1e-6},
            stop={"versions_max": 8 * devices // updates_per_round, "idle_s": 86_400.0},
            clipping={"norm": 1.0},
        )
    )


@dataclass(slots=True)
class Hour:
    """What happened within one hour; `leases` in flight are looked at once a minute."""

    counts: Counter[str] = field(default_factory=Counter)
    staleness: Counter[int] = field(default_factory=Counter)
    leases: list[int] = field(default_factory=list)


class Day:
    """One task's day; `run` takes it from midnight to midnight."""

    def __init__(self, rules: Policy, *, seed: int) -> None:
        self.rules, self.task = rules, task_of(rules)
        self.hours = [Hour() for _ in range(24)]
        self.decisions = 0
        self.epsilon = 0.0
        self.deciders: dict[str, Decider[Any]] = {
            "selector": SELECTOR,
            "aggregator": aggregator.make_decider(NOISE.id),
            "privacy": PRIVACY_BUDGET,
        }
        self.states = {name: decider.initial() for name, decider in self.deciders.items()}
        self._random, self._numbers = random.Random(seed), np.random.default_rng(seed)
        self._due: list[tuple[int, int, str, object]] = []
        self._order = count()
        self._hour = self.hours[0]
        self._releasing = -1

    def run(self) -> None:
        """Every check-in, update, release and tick of the day, in the order of time."""
        self._tell("aggregator", self.task, time_ms=BEGAN_MS)
        for start in range(0, DAY_MS, MINUTE_MS):
            self._hour = self.hours[start // HOUR_MS]
            self._hour.leases.append(len(self.states["selector"].tasks[TASK].leases))
            for tick in range(start, start + MINUTE_MS, TICK_MS):
                self._at(BEGAN_MS + tick, "selector", Tick())
            for time_ms, number in self._checkins(start):
                self._until(time_ms)
                self._hour.counts["check-ins"] += 1
                self._tell("selector", check_in(number, now_ms=time_ms), time_ms=time_ms)

    def _checkins(self, start: int) -> Iterator[tuple[int, int]]:
        """Times and devices of one minute, drawn at once, which is the same as a clock of its own for each device."""
        devices = self.rules.selection.devices_expected
        swing = (SWING - 1) / (SWING + 1) * math.cos(2 * math.pi * (start - PEAK_HOUR * HOUR_MS) / DAY_MS)
        drawn = self._numbers.poisson(devices * CHECKINS_A_DAY * (1 + swing) * MINUTE_MS / DAY_MS)
        times = np.sort(self._numbers.integers(start, start + MINUTE_MS, drawn)) + BEGAN_MS
        return zip(times.tolist(), self._numbers.integers(0, devices, drawn).tolist(), strict=True)

    def _at(self, time_ms: int, name: str, fact: object) -> None:
        heapq.heappush(self._due, (time_ms, next(self._order), name, fact))

    def _until(self, time_ms: int) -> None:
        while self._due and self._due[0][0] <= time_ms:
            due_ms, _, name, fact = heapq.heappop(self._due)
            if isinstance(fact, LeaseGranted):
                fact = update(fact, self.task, append_ms=due_ms, state=self.states["aggregator"])
            self._tell(name, fact, time_ms=due_ms)

    def _tell(self, name: str, fact: object, *, time_ms: int) -> None:
        """One input of one actor: decide, fold, and let the others learn of it."""
        state, decider = self.states[name], self.deciders[name]
        events = decider.decide(state, fact, time_ms)
        for event in events:
            decider.evolve(state, event, time_ms)
        self.decisions += bool(events)
        for event in events:
            self._count(event)
            for reader in READERS[name]:
                self._tell(reader, event, time_ms=time_ms)
            if isinstance(event, LeaseGranted) and self._random.random() >= DROP_OUT:
                trained_s = abs(self._random.gauss(0, TRAINING_SIGMA_S))
                self._at(time_ms + round(trained_s * 1000), "aggregator", event)
        if name == "aggregator":
            self._release(state.tasks[TASK].find_awaited(), time_ms=time_ms)

    def _release(self, awaited: Round | None, *, time_ms: int) -> None:
        """What the aggregator's host would do: compute the model, and hand it in a little later."""
        if awaited is None or awaited.id <= self._releasing:
            return
        self._releasing = awaited.id
        model = body_ref(f"model {awaited.id}", "models")
        stored = ReleaseStored(task=TASK, round=awaited.id, sum_sha256=bytes(32), model=model, moments=None)
        self._at(time_ms + RELEASE_MS, "aggregator", stored)

    def _count(self, event: JournalEvent) -> None:
        counts = self._hour.counts
        match event:
            case LeaseGranted():
                counts["granted"] += 1
            case CheckinsDeclined(counts=reasons):
                counts.update({f"declined: {reason}": number for reason, number in reasons.items()})
            case LeaseClosed(outcome="expired"):
                counts["expired"] += 1
            case UpdateAdmitted():
                counts["admitted"] += 1
                self._hour.staleness[event.staleness] += 1
            case UpdateRefused():
                counts[f"refused: {event.reason}"] += 1
            case UpdatesDeclined(counts=reasons):
                counts.update({f"refused: {reason}": number for reason, number in reasons.items()})
            case ModelPublished():
                counts["versions"] += 1
            case RoundCharged():
                self.epsilon = event.epsilon


def main() -> None:
    """Run a day, keep its row, and draw the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.measures.day")
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--updates-per-round", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    before = psutil.Process().memory_info().rss
    day = Day(rules(given.devices, given.updates_per_round), seed=given.seed)
    began = time.process_time()
    day.run()
    seconds = time.process_time() - began
    grown = psutil.Process().memory_info().rss - before
    row = {
        "devices": given.devices,
        "seed": given.seed,
        "decisions": day.decisions,
        "cpu_s": round(seconds),
        "decisions_per_s": round(day.decisions / seconds),
        "process_bytes_per_device": round(grown / given.devices),
        "epsilon": round(day.epsilon, 2),
        **day_page.figures(day.hours),
    }
    add_row("day", row)
    day_page.write()
    sys.stdout.write(
        json.dumps({name: value for name, value in row.items() if name not in {"hours", "staleness"}}) + "\n"
    )


if __name__ == "__main__":
    main()
