"""Who of a fleet attacks, and how it is put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_agent.hostile.attacks import AttackError, parse_attack
from client_agent.hostile.crew import KNOWN_MIN, HostileCrew, choose_attackers
from client_agent.hostile.poisoning import PoisonedPart
from client_agent.hostile.ring import HostileTrainer
from client_agent.hostile.timing import BurstProfile, FastProfile
from client_agent.learning.data import Part
from client_agent.running.profiles import STEADY, SimulatedProfile
from client_agent.running.work import Work
from schemas.policy import Seeds


@dataclass(frozen=True)
class Asked:
    """A trainer that only remembers which part of the data it was made for."""

    part: Part


class _Learner:
    def make_trainer(self, part: Part) -> Any:
        return Asked(part)


def make_crew(word: str | None, count: int = 20, **work: Any) -> HostileCrew:
    learner: Any = _Learner()
    made = Work(learner, "module:data", seeds=Seeds(habits=3, split=5), **work)
    attack = None if word is None else parse_attack(word)
    return HostileCrew(attack, count, made, lambda index: Part(index=index, count=count), 10_000)


@given(st.floats(0, 1), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_as_many_attack_as_were_asked_for(share: float, count: int, seed: int) -> None:
    """Guarantee: the share of the devices, to the nearest, is hostile; the same ones for each attack of one seed."""
    found = choose_attackers(parse_attack(f"ipm:{share!r}"), count, seed=seed)
    assert abs(len(found) - share * count) <= 0.5
    assert found <= set(range(count))
    assert found == choose_attackers(parse_attack(f"alie:{share!r}"), count, seed=seed)


def test_only_attackers_attack() -> None:
    """Guarantee: every other device has its own trainer and habits, as in a fleet without an attack."""
    crew, honest = make_crew("fast:0.2"), make_crew(None)
    assert len(crew.members) == 4
    assert not honest.members
    for index in range(20):
        trainer, profile = crew.make_trainer(index), crew.make_profile(index, STEADY)
        assert isinstance(trainer, HostileTrainer) == (index in crew.members)
        assert isinstance(profile, FastProfile) == (index in crew.members)
        assert honest.make_trainer(index) == Asked(Part(index=index, count=20, plugin="module:data", seed=5))
        assert type(honest.make_profile(index, STEADY)) is SimulatedProfile


def test_a_ring_knows_its_own_and_some_others() -> None:
    """Guarantee: attackers know their own data, and where they are few, those of some honest devices."""
    few, many = make_crew("alie:0.1"), make_crew("alie:0.9")
    assert few.members < set(few._ring.places)
    assert len(set(few._ring.places)) == len(few._ring.places) == KNOWN_MIN
    assert set(many._ring.places) == many.members


def test_data_are_poisoned_where_the_attack_says_so() -> None:
    """Guarantee: the learner of such an attacker is given poisoned data of its own part, and nobody else's is."""
    crew = make_crew("label_flip:0.2")
    for index in range(20):
        made: Any = crew.make_trainer(index)
        part = made.trainer.part if index in crew.members else made.part
        assert isinstance(part, PoisonedPart) == (index in crew.members)
        assert (part.index, part.plugin, part.seed) == (index, "module:data", 5)


def test_a_learner_that_loads_as_it_likes_is_not_poisoned() -> None:
    """Guarantee: an attack that would do nothing is refused."""
    with pytest.raises(AttackError, match="name `data` in the policy"):
        make_crew("backdoor:0.1", own="mine:Learner")


def test_bursts_follow_the_lease() -> None:
    """Guarantee: the period is the named share of a lease."""
    crew = make_crew("stale_burst:0.2:0.25")
    profile = crew.make_profile(min(crew.members), STEADY)
    assert isinstance(profile, BurstProfile)
    profile.find_return_ms(1_000)
    assert profile.choose_training_ms("lease", 1) == 1_500
