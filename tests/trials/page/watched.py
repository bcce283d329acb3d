"""The gallery with three tasks more, for whoever looks at the page: answers that move, an attacker, a rollout.

Not for the tests that share a gallery, which would be played longer for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace

from schemas.canonical import encode
from schemas.events import Tick, VersionEvaluated
from schemas.policy import Policy, Stop
from schemas.tensors import Floats
from schemas.topics import CLOCK, EVALUATIONS
from tests.gallery import Gallery
from tests.worlds.builders import create_task, scored
from tests.worlds.drift.asking import COHORTS, drift_policy, in_cohorts
from tests.worlds.quarantine.tasks import HONEST, PARAMETERS, draw_deltas, watched_policy
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.rounds import evaluator_id

ASKED, ATTACKED, RELEASED = "campus.ages", "campus.keyboard", "campus.words"
ROUND_MS = 40_000
# Past the night of the others.
OPEN: Any = {"versions_max": 30, "idle_s": 86_400.0}


class WatchedGallery(Gallery):
    """A day on which a cohort's data move, a device attacks, and a version is taken back for what has moved."""

    def _play_more(self) -> None:
        alike: Mapping[str, tuple[int, ...]] = {"lab": (0, 0, 1, 2), "home": (0, 1, 1, 2)}
        question = drift_policy(cohorts=COHORTS, drift={"skew_ks_max": 0.3}, stop=OPEN)
        self._create(ASKED, question, parameters=2 * 4 + 2)
        for _ in range(3):
            self._ask(alike)
        self._attack()
        self._roll_out()
        # Found while a canary is out: the next promotion waits for it.
        for _ in range(2):
            self._ask({"lab": (0, 0, 1, 2), "home": (2, 3, 3, 3)})
        self._release(0.91)

    def _create(self, task: str, rules: Policy, *, parameters: int) -> None:
        self._policies[task] = rules
        self._scored.update((task, version) for version in range(40))
        create_task(self.log, rules, task=task, model=np.zeros(parameters))
        self.settle()

    def _take(self, task: str, deltas: Mapping[str, Floats]) -> None:
        """One round of these updates."""
        devices = {name: self._of(task, f"{task}-{name}") for name in deltas}
        for device in devices.values():
            device.check_in()
        self.settle()
        for name, delta in deltas.items():
            self.now_ms += 150
            devices[name].submit(delta, self._policies[task])
            self.settle()
        self.now_ms += ROUND_MS

    def _ask(self, places: Mapping[str, tuple[int, ...]]) -> None:
        self._take(ASKED, {f"d{number}": each for number, each in enumerate(in_cohorts(places))})

    def _attack(self) -> None:
        """Two rounds of an attacker, and what goes on without it."""
        self._create(ATTACKED, watched_policy(stop=OPEN), parameters=PARAMETERS)
        for seed in range(4):
            hostile, honest = ("a", HONEST[:5]) if seed < 2 else ("", HONEST[:6])
            self._take(ATTACKED, draw_deltas(seed, hostile, honest))

    def _roll_out(self) -> None:
        """One version goes to everybody, one is worse, and one is tried by some."""
        gates = [
            {"metric": "accuracy", "at_least": 0.5, "drop_max": 0.01},
            {"metric": "ks", "drift_of": ASKED, "drift_max": 0.2},
        ]
        self._create(RELEASED, replace(rollout_policy(kept=5, gates=gates), stop=Stop(**OPEN)), parameters=4)
        for accuracy in (0.9, 0.7, 0.92):
            self._release(accuracy)
            for _ in range(2 if accuracy < 0.92 else 0):
                self._hold()

    def _release(self, accuracy: float) -> None:
        self._take(RELEASED, dict.fromkeys("abc", np.full(4, 0.01, np.float32)))
        for cohort in ("lab", ""):
            said = VersionEvaluated(
                task=RELEASED,
                version=self._newest(RELEASED),
                metrics={"accuracy": accuracy},
                samples=100,
                cohort=cohort,
                evaluator=evaluator_id(0),
            )
            self.append(EVALUATIONS.name, scored(said, serial=0))
        self.settle()

    def _hold(self) -> None:
        self.now_ms += 61_000
        self.append(CLOCK.name, encode(Tick()))
        self.settle()
