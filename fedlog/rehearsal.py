"""A rehearsal: a policy trained on this machine alone, in rounds, without a broker, a worker or a log.

It says in seconds whether a model learns at all. Updates are clipped as on devices and averaged as by the server;
compression, staleness and noise are left out, so that a real run may need more versions.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from actors.deciders.arithmetic import optimizers, schedules
from client_agent.compression import protect
from client_agent.learning.data import Part
from client_agent.learning.layout import Layout, Model
from client_agent.learning.learner import Context, derive_seed
from client_agent.learning.opening import DataTrainer, TaskLearner, initialize, open_learner
from schemas.policy import Policy, parse
from schemas.tensors import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """The scores of each version, the first one's before any training, and the last model's arrays by name."""

    policy: Policy
    curve: list[dict[str, float]]
    arrays: dict[str, Floats] = field(repr=False)

    @property
    def is_on_target(self) -> bool:
        """Whether the last version has the score at which the policy ends the task."""
        stop = self.policy.stop
        return self.curve[-1].get(stop.target_metric, -np.inf) >= stop.target_value


def rehearse(policy: Policy | Path | str, *, devices: int, versions: int | None = None) -> Rehearsed:
    """Train until the policy's target, or for so many versions (`versions_max` of the policy without).

    A path is read, and what the policy names is looked up beside it. Raises PolicyError, PluginError, LearnerError.
    """
    if isinstance(policy, Policy):
        return _Rehearsal(policy, devices).run(versions)
    file = Path(policy).resolve()
    with _stay_in(file.parent):
        return _Rehearsal(parse(file.read_bytes()), devices).run(versions)


class _Rehearsal:
    """Devices that train in turn, and the server's step."""

    def __init__(self, policy: Policy, devices: int) -> None:
        self._policy = policy
        learner, seeds = open_learner(policy), policy.drawn_by
        parameters = initialize(learner, seeds.model)
        layout = Layout.describe_parameters(parameters, averaged_scale=policy.parameters.averaged_scale)
        self._learner = TaskLearner(learner, layout, parameters)
        self._draw = np.random.default_rng(seeds.habits)
        parts = [Part(index=index, count=devices, seed=seeds.split, plugin=policy.data) for index in range(devices)]
        # Whoever the selector would decline takes no part here either.
        trainers = [self._learner.make_trainer(part) for part in parts]
        able = (one for one in trainers if one.sample_count >= policy.selection.samples_min)
        self._trainers = [one for one in able if one.sample_count == 0 or not one.find_lack(policy)]
        self._states: dict[int, dict[str, Any]] = {}
        self._held_out = self._learner.load(Part(split="test", seed=seeds.split, plugin=policy.data))

    def run(self, versions: int | None) -> Rehearsed:
        arrays = {name: parameter.value for name, parameter in self._learner.parameters.items()}
        layout, stop = self._learner.layout, self._policy.stop
        model, moments = Model(layout.join(arrays), layout.join_frozen(arrays)), None
        curve = [self._learner.evaluate(model, self._held_out)]
        for version in range(stop.versions_max if versions is None else versions):
            stepped = self._step(model, moments, version=version)
            model, moments = Model(stepped.model, model.frozen), stepped.moments
            curve.append(self._learner.evaluate(model, self._held_out))
            if stop.target_metric and curve[-1].get(stop.target_metric, -np.inf) >= stop.target_value:
                break
        return Rehearsed(policy=self._policy, curve=curve, arrays=layout.split(model))

    def _step(self, model: Model, moments: Floats | None, *, version: int) -> optimizers.Stepped:
        """One round of as many devices as the policy's, drawn at random."""
        count = min(self._policy.aggregation.updates_per_round, len(self._trainers))
        chosen = self._draw.choice(len(self._trainers), count, replace=False)
        limit = self._policy.aggregation.samples_max
        weights = [max(1, min(self._trainers[place].sample_count, limit)) for place in chosen]
        deltas = [self._train(model, int(place), version=version) for place in chosen]
        # As the server does: by weight, or by their number.
        whole = sum(weights) if self._policy.aggregation.normalisation == "weight" else count
        mean = sum(weight * delta.astype(np.float64) for weight, delta in zip(weights, deltas, strict=True)) / whole
        trained = sum(spec.size for spec in self._learner.layout.vector_tensors if spec.role == "trained")
        optimizer = schedules.schedule_optimizer(self._policy, version)
        return optimizers.step(optimizer, model.vector, moments=moments, delta=mean, trained=trained)

    def _train(self, model: Model, place: int, *, version: int) -> Floats:
        trainer: DataTrainer = self._trainers[place]
        context = Context(
            version=version,
            seed=derive_seed(self._policy, str(place), version=version),
            policy=self._policy,
            device=f"device-{place}",
            state=self._states.get(place, {}),
        )
        made = trainer.train(model, context)
        # As an outbox keeps it: every update of a rehearsal arrives.
        self._states[place] = made.state
        return protect(made.delta, None, norm=self._policy.clipping.norm)


@contextlib.contextmanager
def _stay_in(folder: Path) -> Iterator[None]:
    """Work in a folder: plugins, and whatever data they open, are looked up there."""
    with contextlib.chdir(folder):
        try:
            yield
        finally:
            if str(folder) in sys.path:
                sys.path.remove(str(folder))
