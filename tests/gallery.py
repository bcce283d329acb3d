"""A federation for pictures: devices in three cohorts train, come late, die and are refused, with privacy and without.

The real actors on the in-memory log and a clock of its own, so that the pictures come out the same every time.
"""

from __future__ import annotations

import functools
import heapq
import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from schemas.canonical import decode, encode
from schemas.certificates import parse_certified
from schemas.events import Answer, Granted, Tick, VersionEvaluated
from schemas.topics import ANSWERS, CHECKINS, EVALUATIONS, TASKS, UPDATES, answer_partition
from streams.log import TopicPartition, scan
from tests.worlds.builders import create_task, policy, scored, task_paused, written
from tests.worlds.federation import Federation, ScriptedDevice

PARAMETERS = 64
COHORTS = ("phones", "tablets", "laptops")
MAIN, DONE, STILL = "campus.digits", "campus.rings", "campus.speech"
NIGHT_MS, TICK_MS = 25 * 60_000, 1_000


class Gallery(Federation):
    """Many devices on a clock; `play` is a day of theirs."""

    def __init__(self, *, versions: int = 17) -> None:
        rules = policy(
            selection={"devices_expected": 60, "concurrency": 30, "lease_s": 60.0},
            aggregation={"updates_per_round": 20},
            compression={"codec": "int8"},
            clipping={"norm": 1.0},
            staleness={"max_versions": 6},
            evaluation={"metrics": ["accuracy"]},
            privacy={"noise_multiplier": 1.1, "rho_max": 9.0},
            stop={"versions_max": 40, "idle_s": 7_200.0},
        )
        self._draw = random.Random(11)
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._count = self._ticked_ms = 0
        self._versions = versions
        self._policies = {MAIN: rules}
        self._heard: dict[TopicPartition, int] = {}
        self._scored: set[tuple[str, int]] = set()
        super().__init__(rules, parameters=PARAMETERS, task=MAIN)

    def play(self) -> None:
        """From the first check-in until the task has so many versions, and half a round more."""
        self._begin(DONE, versions_max=6, cohorts=COHORTS[:2])
        self._run(lambda: self._newest(DONE) >= 6)
        self._begin(STILL, versions_max=30, cohorts=COHORTS[2:])
        self._run(lambda: self._newest(STILL) >= 3)
        self.append(TASKS.name, written(task_paused(task=STILL)))
        self.settle()
        self._due.clear()
        self._play_more()
        self._enter(MAIN, COHORTS, devices=60)
        self._run(lambda: self._newest(MAIN) >= self._versions - 4)
        # The night, in which nobody charges: what a timeline squeezes.
        held = [(due + NIGHT_MS, number, action) for due, number, action in self._due]
        self._due = held
        self._run(lambda: self._newest(MAIN) >= self._versions)
        half = self._admitted() + 13
        self._run(lambda: self._admitted() >= half)

    def _play_more(self) -> None:
        """Further tasks of the same day; here there are none."""

    def _begin(self, task: str, *, versions_max: int, cohorts: tuple[str, ...]) -> None:
        rules = policy(
            selection={"devices_expected": 16, "concurrency": 12, "lease_s": 60.0},
            aggregation={"updates_per_round": 6},
            evaluation={"metrics": ["accuracy"]},
            stop={"versions_max": versions_max, "idle_s": 86_400.0},
        )
        self._policies[task] = rules
        create_task(self.log, rules, task=task, model=np.zeros(PARAMETERS))
        self.settle()
        self._enter(task, cohorts, devices=16)

    def _enter(self, task: str, cohorts: tuple[str, ...], *, devices: int) -> None:
        for number in range(devices):
            # A third of them are slow: theirs are the stale updates.
            speed = 4_000 * math.exp(self._draw.gauss(0, 0.35)) * (3.2 if number % 3 == 2 else 1)
            name, cohort = f"{task}-{number}", cohorts[int(number**1.5) % len(cohorts)]
            self._at(self._draw.randrange(8_000), functools.partial(self._check_in, task, name, cohort, speed))

    def _at(self, delay_ms: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._due, (self.now_ms + int(delay_ms), self._count, action))

    def _run(self, is_over: Callable[[], bool]) -> None:
        for _ in range(20_000):
            if is_over() or not self._due:
                return
            due, _, action = heapq.heappop(self._due)
            self.now_ms = max(self.now_ms + 3, due)
            # As the hosts do, or nobody would notice that a lease has run out.
            if self.now_ms >= self._ticked_ms + TICK_MS:
                self._ticked_ms = self.now_ms
                for topic in (CHECKINS.name, UPDATES.name):
                    self.append(topic, encode(Tick()))
            action()
            self.settle()
            self._score()

    def _of(self, task: str, name: str) -> ScriptedDevice:
        return ScriptedDevice(name, self.log, task=task, sent_ms=self.sent_ms)

    def _check_in(self, task: str, name: str, cohort: str, speed: float) -> None:
        device = self._of(task, name)
        again = functools.partial(self._check_in, task, name, cohort, speed)
        battery = 12 if self._draw.random() < 0.04 else 80
        device.check_in(cohort=cohort, samples=self._draw.randrange(20, 90), battery_percent=battery)
        self.settle()
        granted = self._hear(device.id)
        if granted is None:
            self._at(self._draw.uniform(2_000, 9_000), again)
            return
        # Some die under their lease, and are missed until it runs out.
        if self._draw.random() < 0.03:
            self._at(70_000, again)
            return
        takes = speed * math.exp(self._draw.gauss(0, 0.25))
        self._at(takes, functools.partial(self._submit, task, name, granted, again))

    def _submit(self, task: str, name: str, granted: Granted, again: Callable[[], None]) -> None:
        # A device whose training diverged sends what no sum can take.
        size = 1e-3 if self._draw.random() > 0.02 else math.nan
        delta = np.random.default_rng(self._count).normal(0, 1, PARAMETERS) * 0.05 * (size / 1e-3)
        self._of(task, name).submit(delta.astype(np.float32), self._policies[task], lease=granted)
        self._at(self._draw.uniform(300, 4_000), again)

    def _hear(self, device: str) -> Granted | None:
        """The lease that this device was granted just now."""
        at = TopicPartition(ANSWERS.name, answer_partition(device, self.log.partitions))
        heard = None
        for record in scan(self.log, at, start=self._heard.get(at, 0)):
            self._heard[at] = record.offset + 1
            answer = decode(parse_certified(record.value or b"").payload, Answer)  # type: ignore[arg-type]
            if isinstance(answer, Granted) and answer.device == device:
                heard = answer
        return heard

    def _newest(self, task: str) -> int:
        tasks = self.actors["aggregator"].state.tasks
        return int(tasks[task].version) if task in tasks else -1

    def _admitted(self) -> int:
        state: Any = self.actors["aggregator"].state.tasks[MAIN]
        return int(state.version) * 20 + sum(len(filling.members) for filling in state.rounds())

    def _score(self) -> None:
        for task in self._policies:
            version = self._newest(task)
            if version < 0 or (task, version) in self._scored:
                continue
            self._scored.add((task, version))
            for number, cohort in enumerate((*COHORTS, "")):
                accuracy = (
                    0.12 + 0.83 * (1 - math.exp(-version / 6)) + 0.025 * number - 0.06 + 0.012 * math.sin(version * 2.3)
                )
                metrics = {"accuracy": round(accuracy, 4), "loss": round(2.3 * math.exp(-version / 7) + 0.24, 4)}
                told = VersionEvaluated(task=task, version=version, metrics=metrics, samples=360, cohort=cohort)
                self.append(EVALUATIONS.name, scored(told))
            self.settle()


@functools.cache
def paint() -> Gallery:
    """The federation, played once for all tests of a process."""
    gallery = Gallery()
    gallery.play()
    return gallery
