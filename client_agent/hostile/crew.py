"""Which devices of a fleet attack, and how they are put together: their data, their trainer, their hours."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields

from client_agent.hostile.attacks import Attack, AttackError
from client_agent.hostile.poisoning import PoisonedPart
from client_agent.hostile.ring import HostileTrainer, Ring
from client_agent.hostile.timing import BurstProfile, FastProfile
from client_agent.learning.data import Part
from client_agent.learning.trainer import Trainer
from client_agent.running.profiles import SimulatedProfile, SimulationOptions
from client_agent.running.work import Work

# A deviation of fewer updates says little, so that a small ring also knows the data of some who are honest.
KNOWN_MIN = 10


def choose_attackers(attack: Attack, count: int, *, seed: int) -> frozenset[int]:
    """The places of the attackers among `count` devices, the same for the same seed; of one attack as of another."""
    hostile = min(count, int(attack.share * count + 0.5))
    return frozenset(random.Random(f"fedlog/hostile/{seed}").sample(range(count), hostile))


@dataclass(slots=True)
class HostileCrew:
    """Puts together a fleet of `count` devices, some of which carry out `attack`; None: nobody does.

    `find_part`: a device's place in the data, by its index.
    """

    attack: Attack | None
    count: int
    work: Work
    find_part: Callable[[int], Part]
    lease_ms: int
    members: frozenset[int] = frozenset()
    _ring: Ring = field(init=False)

    def __post_init__(self) -> None:
        seed = self.work.seeds.habits
        if self.attack is not None:
            self._check_data(self.attack)
            self.members = choose_attackers(self.attack, self.count, seed=seed)
        others = [place for place in range(self.count) if place not in self.members]
        random.Random(f"fedlog/known/{seed}").shuffle(others)
        known = [*sorted(self.members), *others[: max(0, KNOWN_MIN - len(self.members))]]
        self._ring = Ring(known, lambda place: self.work.make_trainer(self.find_part(place)))

    def _check_data(self, attack: Attack) -> None:
        if attack.known.kind == "data" and self.work.own:
            raise AttackError(
                f"{attack.name} poisons what a data plugin gives, and {self.work.own!r} loads as it likes: name "
                "`data` in the policy, or take an attack on updates"
            )

    def make_trainer(self, index: int) -> Trainer:
        """The trainer of any device of the fleet: an honest one gets its own. Raises DataError, AttackError."""
        part = self.find_part(index)
        if self.attack is None or index not in self.members:
            return self.work.make_trainer(part)
        if self.attack.known.kind == "data":
            part = PoisonedPart(attack=self.attack.name, **{f.name: getattr(part, f.name) for f in fields(Part)})
        return HostileTrainer(self.work.make_trainer(part), self.attack, self._ring)

    def make_profile(self, index: int, options: SimulationOptions) -> SimulatedProfile:
        """The habits of any device of the fleet."""
        device, seed = str(index), self.work.seeds.habits
        attack = self.attack if index in self.members else None
        if attack is not None and attack.name == "fast":
            return FastProfile(options, device=device, seed=seed)
        if attack is not None and attack.name == "stale_burst":
            period_ms = max(1, round(attack.strength * self.lease_ms))
            return BurstProfile(options, device=device, seed=seed, period_ms=period_ms)
        return SimulatedProfile(options, device=device, seed=seed)
