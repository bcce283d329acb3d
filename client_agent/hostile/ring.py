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
from client_agent.learning.trainer import Trained, Trainer
from schemas.tensors import Floats

# Devices of one round may start from different versions.
VERSIONS_KEPT = 4
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
            rows = [self._train(place, model, context=context) for place in self.places]
            self._seen[context.version] = np.array(rows, np.float64)
            while len(self._seen) > VERSIONS_KEPT:
                del self._seen[next(iter(self._seen))]
        return self._seen[context.version]

    def _train(self, place: int, model: Model, *, context: Context) -> Floats:
        if place not in self._trainers:
            self._trainers[place] = self.make_trainer(place)
        seed = derive_seed(context.policy, str(place), version=context.version)
        trained = self._trainers[place].train(model, replace(context, seed=seed, device="", state={}))
        return clip(trained.delta, context.policy.clipping.norm)


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
        honest = self.trainer.train(model, context)
        return replace(honest, delta=self._turn(honest.delta, model, context=context).astype(np.float32))

    def _turn(self, delta: Floats, model: Model, *, context: Context) -> vectors.Vector:
        own, strength = delta.astype(np.float64), self.attack.strength
        match self.attack.name:
            case "sign_flip" | "fast":
                return vectors.flip_sign(own, strength)
            case "stale_burst":
                return vectors.flip_sign(own, 1.0)
            case "gaussian" | "free_rider":
                return vectors.draw_noise(own.size, strength, seed=context.seed)
            case "alie":
                return vectors.hide_a_little(self.ring.observe(model, context), strength)
            case "ipm":
                return vectors.invert_mean(self.ring.observe(model, context), strength)
            case _:
                # scaling, and the updates that were trained on poisoned data.
                return vectors.scale(own, strength)
