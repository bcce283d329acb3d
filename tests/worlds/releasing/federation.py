"""A federation whose versions are rolled out: rounds, scores of an evaluator, orders, and time that passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from actors.runtime.actor import Actor
from schemas.canonical import encode
from schemas.events import Promoted, RolledBack, RolloutAction, Tick, VersionEvaluated
from schemas.policy import Policy
from schemas.topics import CLOCK, EVALUATIONS, ROLLOUTS, TASKS
from tests.worlds.builders import scored, written
from tests.worlds.federation import Federation
from tests.worlds.releasing.deciding import rollout_policy
from tests.worlds.releasing.orders import rollout_ordered
from tests.worlds.rounds import evaluator_id

HOLD_MS = 60_000


class Released(Federation):
    """The same federation; by default with RULES, and few models kept."""

    def __init__(self, rules: Policy | None = None, **rollout: Any) -> None:
        super().__init__(rules or rollout_policy(kept=3, **rollout))

    def publish(self) -> int:
        """One more version; its number."""
        self.round_of(dict.fromkeys("abc", np.ones(4, np.float32)))
        version: int = self.actors["aggregator"].state.tasks[self.task].version
        return version

    def score(self, version: int, accuracy: float, *, serial: int = 0) -> None:
        """What an evaluator says of a version: its cohort first, then all together."""
        for cohort in ("lab", ""):
            said = VersionEvaluated(
                task=self.task,
                version=version,
                metrics={"accuracy": accuracy},
                samples=100,
                cohort=cohort,
                evaluator=evaluator_id(serial),
            )
            self.append(EVALUATIONS.name, scored(said, serial=serial))
        self.settle()

    def hold(self) -> None:
        """A stage goes by, and the host marks it."""
        self.now_ms += HOLD_MS
        self.append(CLOCK.name, encode(Tick()))
        self.settle()

    def order(self, action: RolloutAction, version: int | None = None, *, number: int = 1) -> None:
        """What the operator orders."""
        self.append(TASKS.name, written(rollout_ordered(self.task, action, version=version, number=number)))
        self.settle()

    def promote(self, accuracy: float = 0.9) -> int:
        """A version that goes through all stages; its number."""
        version = self.publish()
        self.score(version, accuracy)
        for _ in range(2):
            self.hold()
        return version

    @property
    def rollout(self) -> Actor[Any]:
        """The actor."""
        return self.actors["rollout"]

    def outcomes(self) -> list[tuple[str, int]]:
        """What was promoted and rolled back, in order."""
        return [(type(e).__name__, e.version) for e in self.events(ROLLOUTS.name, Promoted, RolledBack)]
