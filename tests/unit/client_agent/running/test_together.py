"""Trainings made ahead: a device takes what was made for its own lease, and trains alone where nothing was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from client_agent.learning.data import Part
from client_agent.learning.examples import digits
from client_agent.learning.layout import Model
from client_agent.learning.learner import Context
from client_agent.learning.opening import DataTrainer, TaskLearner, open_task_learner
from client_agent.learning.trainer import Coming, Trained
from client_agent.running.loop import DeviceLoop
from client_agent.running.profiles import STEADY
from client_agent.running.together import Together, TogetherTrainer
from client_agent.running.watch import Watch
from schemas.leases import read_lease
from schemas.policy import Training
from tests import torch_zoo as zoo
from tests.unit.client_agent.running.test_loop import Server, settings
from tests.worlds.device_world import AskingLink, World
from tests.worlds.device_world import policy as device_policy

RULES = zoo.torch_policy(zoo.linear, training={"epochs": 2, "batch_size": 4})


@dataclass
class Counting:
    """A trainer that counts how often it trains."""

    trainer: Any
    trainings: int = 0

    @property
    def sample_count(self) -> int:
        """That of the trainer."""
        return int(self.trainer.sample_count)

    def train(self, model: Model, context: Context) -> Trained:
        """One more."""
        self.trainings += 1
        trained: Trained = self.trainer.train(model, context)
        return trained


def make_trainer(learner: TaskLearner, together: Together, *, seed: int) -> TogetherTrainer:
    data = DataTrainer(learner, zoo.read_rows(*zoo.make_rows(6, seed=seed)))
    return TogetherTrainer(data, Counting(data), together)


def make_context(number: int, **changes: Any) -> Context:
    return replace(Context(version=0, seed=number, policy=RULES, lease=f"lease {number}", left_s=60.0), **changes)


def test_a_result_is_taken_once_and_only_for_its_lease() -> None:
    """Guarantee: what was made ahead serves the lease, version and seed that it was made for, and serves once."""
    learner, together = zoo.open_torch(RULES), Together()
    start, trainer = zoo.find_start(learner), make_trainer(learner, together, seed=0)
    together.train_ahead([Coming(trainer, start, make_context(1))])
    assert together.take(start, make_context(1, seed=2)) is None
    together.train_ahead([Coming(trainer, start, make_context(1))])
    assert together.take(Model(start.vector.copy()), make_context(1)) is None
    together.train_ahead([Coming(trainer, start, make_context(1))])
    assert together.take(start, make_context(1)) is not None
    assert together.take(start, make_context(1)) is None


def test_nobody_trains_alone_who_can_train_together() -> None:
    """Guarantee: foreseen or not, a device gets the same bits, and the loop is not asked."""
    learner, together = zoo.open_torch(RULES), Together()
    start, trainers = zoo.find_start(learner), [make_trainer(learner, together, seed=seed) for seed in range(3)]
    together.train_ahead([Coming(one, start, make_context(number)) for number, one in enumerate(trainers)])
    ahead = [one.train(start, make_context(number)) for number, one in enumerate(trainers)]
    unforeseen = [one.train(start, make_context(number)) for number, one in enumerate(trainers)]
    assert [one.delta.tobytes() for one in ahead] == [one.delta.tobytes() for one in unforeseen]
    assert sum(one.alone.trainings for one in trainers) == 0  # type: ignore[attr-defined]


@dataclass
class Endless:
    """A learner whose training together never ends, unlike its training alone."""

    inner: TaskLearner
    asked: int = 0
    calls: list[str] = field(default_factory=list)

    def train_together(self, model: Model, members: Any) -> list[Trained | None]:
        """For ever."""
        self.asked += 1
        while True:
            time.sleep(0.01)

    def train(self, model: Model, data: Any, *, context: Context) -> Trained:
        """As ever."""
        return self.inner.train(model, data, context=context)


def test_what_does_not_end_together_is_trained_alone() -> None:
    """Guarantee: trainings together that hang end half-way through the leases; then, and from then on, all go alone."""
    endless, watch = Endless(zoo.open_torch(RULES)), Watch(None)
    together, start = Together(watch), zoo.find_start(endless.inner)
    trainers = [make_trainer(endless, together, seed=seed) for seed in range(2)]  # type: ignore[arg-type]
    try:
        together.train_ahead(
            [Coming(one, start, make_context(number, left_s=0.2)) for number, one in enumerate(trainers)]
        )
        assert [one.train(start, make_context(number)).delta.size for number, one in enumerate(trainers)] == [15, 15]
        trainers[0].train(start, make_context(9))
    finally:
        watch.close()
    assert endless.asked == 1
    assert [one.alone.trainings for one in trainers] == [2, 1]  # type: ignore[attr-defined]


@dataclass
class Lived:
    """Updates by device, how many trainings were made ahead at a time, who trained alone, and why some gave up."""

    bodies: dict[str, bytes]
    groups: list[int]
    alone: list[int]
    reasons: dict[str, int]


def live(folder: Path, *, is_ahead: bool) -> Lived:
    """Five devices train the digits once, the third with a wrong label."""
    world = World(device_policy(training=Training(batch_size=4)))
    learner, together = open_task_learner(world.created), Together()
    groups: list[int] = []

    def train_ahead(coming: Sequence[Coming]) -> None:
        groups.append(len(coming))
        together.train_ahead(coming)

    ready, alone = [], list[Counting]()
    for index, setting in enumerate(settings(world, folder, 5, options=STEADY)):
        x, y = digits(Part(index=index, count=200))
        data = DataTrainer(learner, zoo.read_rows(x, np.full_like(y, 12) if index == 2 else y))
        alone.append(Counting(data))
        ready.append(replace(setting, trainer=TogetherTrainer(data, alone[-1], together)))
    link = AskingLink(world, [setting.identity.device for setting in ready])
    loop, server = DeviceLoop(link, ready, now_ms=0, train_ahead=train_ahead if is_ahead else None), Server(world)
    for now_ms in range(0, 2_000, 20):
        loop.step(now_ms)
        server.step()
        if loop.count().admitted >= 4 and loop.count().given_up:
            break
    bodies = {read_lease(one.sealed).device: one.inline or b"" for one in reversed(world.submitted())}
    return Lived(bodies, groups, [one.trainings for one in alone], loop.count().reasons)


def test_a_loop_foresees_its_devices(tmp_path: Path) -> None:
    """Guarantee: devices that are due together train together, to the bits of each alone; one that fails says why."""
    ahead, one_by_one = live(tmp_path / "ahead", is_ahead=True), live(tmp_path / "one by one", is_ahead=False)
    assert ahead.groups[0] == 5
    # What is made for a device is what it takes: made for another copy of the version it would be made in vain.
    assert [number for number, trainings in enumerate(ahead.alone) if trainings] == [2]
    assert len(ahead.bodies) == 4
    assert ahead.bodies == one_by_one.bodies
    assert [reason for reason in ahead.reasons if "label 12, and the model has 10 outputs" in reason]
    assert ahead.reasons.keys() == one_by_one.reasons.keys()
