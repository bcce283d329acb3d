"""Attackers at work: what each sends, and what they know together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from client_agent.hostile.attacks import parse_attack
from client_agent.hostile.ring import VERSIONS_KEPT, HostileTrainer, Ring
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.trainer import Trained, Trainer
from tests.worlds.builders import policy

CONTEXT = Context(version=3, seed=11, policy=policy(clipping={"norm": 4.0}))


@dataclass
class Fixed:
    """A trainer that always changes the same, and counts how often it was asked."""

    delta: list[float]
    asked: list[Context] = field(default_factory=list)
    sample_count: int = 5

    def train(self, model: Model, context: Context) -> Trained:
        """The same."""
        self.asked.append(context)
        return Trained(delta=np.array(self.delta, np.float32), metrics={"loss": 1.0}, state={"kept": 1})


def attack(word: str) -> tuple[Trained, dict[int, Fixed]]:
    """What an attacker with the honest update (1, 2) sends; the ring knows (1, 0) and (3, 0)."""
    known = {4: Fixed([1, 0]), 7: Fixed([3, 0])}
    ring = Ring([4, 7], lambda place: known[place])
    hostile: Trainer = HostileTrainer(Fixed([1, 2]), parse_attack(word), ring)
    assert hostile.sample_count == 5
    return hostile.train(Model(np.zeros(2, np.float32), None), CONTEXT), known


@pytest.mark.parametrize(
    ("word", "sent"),
    [
        ("sign_flip:0.1:2", [-2, -4]),
        ("fast:0.1:1", [-1, -2]),
        ("stale_burst:0.1:0.5", [-5, -10]),
        ("scaling:0.1:10", [10, 20]),
        ("free_rider:0.1", [0, 0]),
        ("alie:0.1:1", [3, 0]),
        ("ipm:0.1:0.5", [-1, 0]),
        ("label_flip:0.1", [1, 2]),
        ("backdoor:0.1:3", [3, 6]),
    ],
)
def test_each_attack_sends_what_it_is(word: str, sent: list[float]) -> None:
    """Guarantee: an attacker's update is its attack's; metrics and state are those of an honest training."""
    found, _ = attack(word)
    assert found.delta.tolist() == sent
    assert found.delta.dtype == np.float32
    assert (found.metrics, found.state) == ({"loss": 1.0}, {"kept": 1})


def test_noise_is_drawn_from_the_training() -> None:
    """Guarantee: the same attacker sends the same noise at the same version, so that a run can be repeated."""
    assert (attack("gaussian:0.1")[0].delta == attack("gaussian:0.1")[0].delta).all()


def test_a_ring_asks_once_a_version_and_sees_what_a_server_sees() -> None:
    """Guarantee: updates are those of each place's own seed, clipped; old versions are forgotten."""
    trainers = {1: Fixed([8, 0]), 2: Fixed([0, 1])}
    ring = Ring([1, 2], lambda place: trainers[place])
    model = Model(np.zeros(2, np.float32), None)
    for _ in range(3):
        assert ring.observe(model, CONTEXT).tolist() == [[4, 0], [0, 1]]
    assert [len(one.asked) for one in trainers.values()] == [1, 1]
    assert trainers[1].asked[0].seed != trainers[2].asked[0].seed
    for version in range(10, 11 + VERSIONS_KEPT):
        ring.observe(model, replace(CONTEXT, version=version))
    ring.observe(model, CONTEXT)
    assert len(trainers[1].asked) == 3 + VERSIONS_KEPT
