"""One training under attack by virtual time, without a log: trainers, attackers, clip, rule and optimizer are the real.

What the log does to none of these is left out: keys, journals, bodies. `whole.py` trains some with it, for comparison.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from actors.deciders.arithmetic import optimizers
from actors.effects.aggregator.summation import compare
from client_agent.compression import clip
from client_agent.hostile.crew import HostileCrew
from client_agent.hostile.poisoning import TARGET, show_trigger
from client_agent.hostile.ring import HostileTrainer
from client_agent.learning.data import Part
from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Context, derive_seed
from client_agent.learning.opening import TaskLearner, initialize, open_learner
from client_agent.learning.trainer import Trained
from client_agent.running.profiles import STEADY
from client_agent.running.work import Work
from schemas.tensors import Floats, Grid, clipping, encode_update, read_update
from tests.trials.robustness import data as examples
from tests.trials.robustness.cells import DEVICES, MINORITY, Cell
from tests.trials.robustness.minority import Member, Members, measure_kept, summarize_kept

HABITS = {"training_ms": 100.0, "speed_sigma": 0.5}
# Versions swing, so that the end of a run is the mean of its last ones.
LAST = 3
# Whose update counts, and by how much, is worked out in every so many rounds.
LOOK_EVERY = 4


def fight(cell: Cell) -> dict[str, Any]:
    """Train a cell; the columns of its row: accuracies from 0 to 1, and what is kept of whom (`minority.py`)."""
    return Arena(cell).run()


@dataclass(slots=True)
class Lease:
    """A device at work from a version, and when it is done."""

    device: int
    version: int
    ready_ms: int
    trained: Trained | None = None


class Arena:
    """The devices of a cell and a server's buffer."""

    def __init__(self, cell: Cell) -> None:
        self.cell, self.policy = cell, cell.policy
        policy = self.policy
        learner, seeds = open_learner(policy), policy.drawn_by
        parameters = initialize(learner, seeds.model)
        self.learner = TaskLearner(learner, Layout.describe_parameters(parameters, averaged_scale=1.0), parameters)
        work = Work(self.learner, policy.data, seeds=seeds)
        self.crew = HostileCrew(self.cell.hostility, DEVICES, work, _find_part, policy.lease_ms)
        self._simulation = replace(STEADY, **HABITS)
        self._trainers = [self.crew.make_trainer(index) for index in range(DEVICES)]
        self._profiles = [self.crew.make_profile(index, self._simulation) for index in range(DEVICES)]
        self._draw = random.Random(f"arena/{seeds.habits}")
        arrays = {name: parameter.value for name, parameter in parameters.items()}
        self._models = [Model(self.learner.layout.join(arrays), None)]
        self._moments: Floats | None = None
        self._leases: list[tuple[int, int, Lease]] = []
        self._granted = 0
        self._members: list[Member] = []
        self._kept: list[tuple[int, float]] = []
        self._staleness: list[int] = []
        self._now_ms = 0
        self.versions = policy.stop.versions_max
        self._weights = policy.weights()

    def run(self) -> dict[str, Any]:
        """To the last version."""
        curve = []
        while len(self._models) <= self.versions:
            self._grant()
            self._now_ms, _, lease = heapq.heappop(self._leases)
            staleness = len(self._models) - 1 - lease.version
            if staleness >= len(self._weights):
                continue
            self._admit(lease, staleness=staleness)
            if len(self._members) == self.policy.aggregation.updates_per_round:
                self._publish()
                curve.append(self._score(examples_of(self.cell.data)))
        model = self._models[-1]
        x, y = examples_of(self.cell.data)
        fooled = self.learner.evaluate(model, (show_trigger(x[y != TARGET]), np.full((y != TARGET).sum(), TARGET)))
        return {
            "accuracy": round(float(np.mean(curve[-LAST:])), 4),
            "minority": round(self._score(examples.read_minority(self.cell.data)), 4),
            "fooled": round(fooled["accuracy"], 4),
            **summarize_kept(self._kept, hostile=self.crew.members, minority=MINORITY),
            "staleness": round(float(np.mean(self._staleness)), 2),
        }

    def _score(self, held_out: Any) -> float:
        return float(self.learner.evaluate(self._models[-1], held_out)["accuracy"])

    def _grant(self) -> None:
        """Leases for whoever is free and not in the round, as many as the policy has slots."""
        busy = {lease.device for _, _, lease in self._leases} | {member.device for member in self._members}
        free = [index for index in range(DEVICES) if index not in busy]
        self._draw.shuffle(free)
        for device in free[: max(0, self.policy.selection.concurrency - len(self._leases))]:
            profile = self._profiles[device]
            profile.find_return_ms(self._now_ms)
            self._granted += 1
            takes_ms = profile.choose_training_ms(str(self._granted), self._trainers[device].sample_count)
            lease = Lease(device, len(self._models) - 1, self._now_ms + takes_ms)
            heapq.heappush(self._leases, (lease.ready_ms, self._granted, lease))

    def _admit(self, lease: Lease, *, staleness: int) -> None:
        if lease.trained is None:
            self._train(lease)
        assert lease.trained is not None
        norm = self.policy.clipping.norm
        body = encode_update(clip(lease.trained.delta, norm), self.policy)
        quanta = read_update(body, self.policy, parameters=self.learner.layout.size)
        scale = clipping.clip_scale(quanta, self.policy.clipping.steps)
        vector = clipping.clip(quanta, scale).astype(np.int64)
        self._members.append(Member(lease.device, self._weights[staleness], vector))
        self._staleness.append(staleness)

    def _train(self, wanted: Lease) -> None:
        """All that were granted at this version, together."""
        alike = [lease for _, _, lease in self._leases if lease.version == wanted.version and lease.trained is None]
        leases, model = [wanted, *alike], self._models[wanted.version]
        contexts = [self._make_context(lease) for lease in leases]
        trainers = [self._trainers[lease.device] for lease in leases]
        plain = [one.trainer if isinstance(one, HostileTrainer) else one for one in trainers]
        answers = self.learner.train_together(
            model, [(one.data, context) for one, context in zip(plain, contexts, strict=True)]
        )
        for lease, trainer, context, answer in zip(leases, trainers, contexts, answers, strict=True):
            honest = plain[leases.index(lease)].train(model, context) if answer is None else answer
            is_hostile = isinstance(trainer, HostileTrainer)
            lease.trained = trainer.turn(honest, model, context=context) if is_hostile else honest

    def _make_context(self, lease: Lease) -> Context:
        seed = derive_seed(self.policy, str(lease.device), version=lease.version)
        return Context(version=lease.version, seed=seed, policy=self.policy, lease=str(id(lease)))

    def _publish(self) -> None:
        members = Members(self._members)
        if len(self._models) % LOOK_EVERY == 0:
            self._kept += measure_kept(members, self._total)
        delta = optimizers.mean(
            self._total(members),
            self.policy,
            members=len(self._members),
            weight_sum=int(members.weights.sum()),
        )
        stepped = optimizers.step(
            self.policy.optimizer, self._models[-1].vector, moments=self._moments, delta=delta, trained=None
        )
        self._models.append(Model(stepped.model, None))
        self._moments, self._members = stepped.moments, []

    def _total(self, members: Members) -> Grid:
        if self.policy.aggregation.rule == "mean":
            return members.weights @ members.vectors
        return compare(members, self.policy)


def examples_of(data: str) -> examples.Examples:
    """The held-out examples that the majority is asked."""
    return getattr(examples, data)(Part(split="test"))  # type: ignore[no-any-return]


def _find_part(index: int) -> Part:
    return Part(index=index, count=DEVICES, folder=Path())
