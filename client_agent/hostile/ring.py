"""What the attackers of a fleet know together, and a trainer that sends what its attack makes of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from client_agent.compression import clip
from client_agent.hostile import vectors
from client_agent.hostile.attacks import Attack
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context, derive_seed
from client_agent.learning.opening import DataTrainer
from client_agent.learning.trainer import Trained, Trainer
from schemas.tensors import Floats

# Devices of one round may start from different versions.
VERSIONS_KEPT = 4
# Its number says when it strikes.
BURST_STRENGTH = 5.0
MakeTrainer = Callable[[int], Trainer]


@dataclass(slots=True)
class Ring:
    """What an honest update would be on the data of some devices, by version; each process works it out for itself.

    `places`: whose data the attackers know. `make_trainer` gives that of a device's place in its fleet.
    """

    places: Sequence[int]
    make_trainer: MakeTrainer
    _trainers: dict[int, Trainer] = field(default_factory=dict)
    _seen: dict[int, npt.NDArray[np.float64]] = field(default_factory=dict)

    def observe(self, model: Model, context: Context) -> npt.NDArray[np.float64]:
        """Honest updates from this version as a server would see them, shape (places, parameters)."""
        if context.version not in self._seen:
            rows = self._train(model, context)
            self._seen[context.version] = np.array(
                [clip(row, context.policy.clipping.norm) for row in rows], np.float64
            )
            while len(self._seen) > VERSIONS_KEPT:
                del self._seen[next(iter(self._seen))]
        return self._seen[context.version]

    def _train(self, model: Model, context: Context) -> list[Floats]:
        for place in self.places:
            if place not in self._trainers:
                self._trainers[place] = self.make_trainer(place)
        trainers = [self._trainers[place] for place in self.places]
        seeds = [derive_seed(context.policy, str(place), version=context.version) for place in self.places]
        contexts = [replace(context, seed=seed, device="", state={}) for seed in seeds]
        answers: list[Trained | None] = [None] * len(trainers)
        # In a fleet they all have one learner, which may train them together.
        plain = [one for one in trainers if isinstance(one, DataTrainer)]
        if plain and len(plain) == len(trainers):
            members = [(one.data, each) for one, each in zip(plain, contexts, strict=True)]
            answers = plain[0].learner.train_together(model, members)
        given = zip(trainers, contexts, answers, strict=True)
        return [(answer or one.train(model, each)).delta for one, each, answer in given]


@dataclass(frozen=True, slots=True)
class HostileTrainer:
    """A trainer of an attacker: it trains as others do, where its attack needs that, and sends what becomes of it."""

    trainer: Trainer
    attack: Attack
    ring: Ring

    @property
    def sample_count(self) -> int:
        """As many as an honest device would tell."""
        return self.trainer.sample_count

    def train(self, model: Model, context: Context) -> Trained:
        """What the attack sends, with the metrics of an honest training. Raises what training raises."""
        return self.turn(self.trainer.train(model, context), model, context=context)

    def turn(self, honest: Trained, model: Model, *, context: Context) -> Trained:
        """What the attack makes of an honest training."""
        return replace(honest, delta=self._turn(honest.delta, model, context=context).astype(np.float32))

    def _turn(self, delta: Floats, model: Model, *, context: Context) -> vectors.Vector:
        own, strength = delta.astype(np.float64), self.attack.strength
        match self.attack.name:
            case "sign_flip" | "fast":
                return vectors.flip_sign(own, strength)
            case "stale_burst":
                return vectors.flip_sign(own, BURST_STRENGTH)
            case "gaussian" | "free_rider":
                return vectors.draw_noise(own.size, strength, seed=context.seed)
            case "alie":
                return vectors.hide_a_little(self.ring.observe(model, context), strength)
            case "ipm":
                return vectors.invert_mean(self.ring.observe(model, context), strength)
            case _:
                # scaling, and the updates that were trained on poisoned data.
                return vectors.scale(own, strength)
