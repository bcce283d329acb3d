"""What can go wrong in a simulated world: each kind of fault, how often a seed has it, and how often it strikes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from streams.memory import _Transaction

# Chosen by the scheduler, each as one step: the weight beside the plain steps, which weigh 60 together.
STEPS = {
    "kill": 8.0,  # a worker dies at one of its next writes
    "freeze": 8.0,  # it stands still there, and goes on when others have moved
    "rival": 3.0,  # a second worker claims while the first lives on
    "reopen": 2.0,  # closed in good order, and opened again
    "quiet": 4.0,  # a worker dies, and nothing comes in for long: what was proposed must be published all the same
    "stray": 8.0,  # records from any offset, as after a reset of the group's offsets
    "repeat": 5.0,  # any earlier record of a device once more
    "junk": 3.0,
    "hostile": 5.0,  # a stranger writes to any topic: noise, what was said elsewhere, what was said here and is bent
    "cheat": 4.0,  # another body under a real lease
    "intruder": 2.0,  # a check-in by someone who never comes back
    "operate": 2.0,  # pause, resume, create again, evaluate
    "close": 0.2,
    "jump": 3.0,  # log time leaps: seconds, a lease, hours
    "housekeep": 5.0,
    "compact": 3.0,
}
# Asked at each write, read or step of a device: a probability.
CHANCES = {
    "broker away": 0.05,  # an operation of a worker finds no broker
    "append unheard": 0.08,  # appended, and reported as failed
    "commit unheard": 0.04,  # committed, and reported as failed
    "commit aborted": 0.04,  # aborted, and reported as failed
    "commit unmade": 0.02,  # aborted, and reported as committed
    "zombie's batch": 0.6,  # the fence lets a batch of a superseded writer through
    "update late": 0.15,
    "update twice": 0.15,
    "device offline": 0.10,
    "answer lost": 0.15,
    "answer late": 0.20,
    "answer twice": 0.15,
    "answers shuffled": 0.30,
    "device dies": 0.06,
    "device away": 0.08,
    "clock back": 0.20,
}
# The same, drawn apart, so that the worlds of recorded seeds stay what they were.
LATER_CHANCES = {
    "marker forgotten": 0.2,  # a broker that crashed in a commit, or in an abort, leaves partitions without a marker
}
LATER_STEPS = {
    "enrol": 4.0,  # somebody orders or asks the registrar, honest or not, and it is struck while it decides that
    "abandon": 4.0,  # a device gives up any lease that it ever got, and its selector is struck while it decides that
    "pack": 3.0,  # a stranger packs what devices have said, true, bent or cut, with noise between, into one record
}
# Of worlds with rollouts: somebody is heard by one, honest or not, and it is struck while it decides that.
ROLLOUT_STEPS = {
    "score": 14.0,
    "order": 5.0,
}
# Of worlds with masked tasks: asked at each step or word of a helper, or when a device seals.
MASK_CHANCES = {
    "helper killed": 0.08,
    "helper away": 0.015,  # for so long that others go on
    "helper's word late": 0.20,  # reported as failed, and appended much later
    "helper's word unheard": 0.20,  # appended or not, and reported as failed
    "helper's write torn": 0.15,  # the power goes in the middle of a write to its journal
    "helper's key lost": 0.006,  # of any epoch
    "helper put back": 0.004,  # from an old copy of its folder
    "helper refuses": 0.90,
    "helper's sum bent": 0.90,  # something else is stored than what it says
    "seals bent": 0.20,  # a device seals what nobody can open
}
KINDS = (*STEPS, *CHANCES, *LATER_CHANCES, *LATER_STEPS, *ROLLOUT_STEPS, *MASK_CHANCES)


@dataclass(slots=True)
class Faults:
    """The faults of one seed, and how often each has struck."""

    random: random.Random
    rates: dict[str, float]
    later: random.Random
    masks: random.Random
    hits: Counter[str] = field(default_factory=Counter)
    healed: bool = False
    promised: list[_Transaction] = field(default_factory=list)  # acknowledged, and still open where it was forgotten

    @property
    def hidden(self) -> set[int]:
        """Partitions with a commit that is made, and that nobody can read yet, though what rests on it is there."""
        return {at.partition for one in self.promised if one.committed is None for at in one.first}

    def take_lost(self) -> list[_Transaction]:
        """Of what was acknowledged, all that has ended as aborted where it was forgotten; each is told once."""
        ended = [one for one in self.promised if one.committed is not None]
        self.promised = [one for one in self.promised if one.committed is None]
        return [one for one in ended if not one.committed]

    def weigh(self, plain: Mapping[str, float], *, rolls_out: bool) -> dict[str, float]:
        """What the scheduler chooses from, and how often: what is no fault, and the kinds that this world has."""
        kinds = STEPS | LATER_STEPS | (ROLLOUT_STEPS if rolls_out else {})
        # Where versions are rolled out there have to be some.
        devices = {"devices": 2.5 * plain["devices"]} if rolls_out else {}
        return {**plain, **devices, **{kind: self.rates[kind] for kind in kinds}}

    def strikes(self, kind: str) -> bool:
        """Whether this fault happens here; counted when it does."""
        chance = self.later if kind in LATER_CHANCES else self.masks if kind in MASK_CHANCES else self.random
        if self.healed or chance.random() >= self.rates[kind]:
            return False
        self.hits[kind] += 1
        return True


def drawn(chance: random.Random, *, off: Collection[str]) -> Faults:
    """Rates of a seed's own: a kind is absent from two seeds in five, else anywhere up to its full rate."""
    rates: dict[str, float] = {}
    for kind, most in (STEPS | CHANCES).items():
        rate = most * chance.random() if chance.random() < 0.6 else 0.0
        rates[kind] = 0.0 if kind in off else rate
    # It ends most stories, so that few seeds may have it.
    if chance.random() < 0.8:
        rates["commit unmade"] = 0.0
    later = random.Random(f"later {chance.getstate()[1][:2]}")
    for kind, most in LATER_CHANCES.items():
        rates[kind] = most * later.random() if kind not in off and later.random() < 0.4 else 0.0
    steps = random.Random(f"steps {chance.getstate()[1][:2]}")
    for kind, most in LATER_STEPS.items():
        rates[kind] = most * steps.random() if kind not in off and steps.random() < 0.6 else 0.0
    masks = random.Random(f"masks {chance.getstate()[1][:2]}")
    for kind, most in MASK_CHANCES.items():
        rates[kind] = most * masks.random() if kind not in off and masks.random() < 0.6 else 0.0
    rollouts = random.Random(f"rollouts {chance.getstate()[1][:2]}")
    for kind, most in ROLLOUT_STEPS.items():
        # Scores in nearly all of them: without any a rollout has nothing to do.
        rates[kind] = most * rollouts.uniform(0.3, 1.0) if kind not in off and rollouts.random() < 0.9 else 0.0
    return Faults(chance, rates, later, masks)
