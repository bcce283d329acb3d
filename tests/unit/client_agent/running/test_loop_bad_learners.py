"""Learners that misbehave, on the device loop: one lease is given up with its reason, and the device goes on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_agent.identity import open_identity
from client_agent.learning.data import DataError, Part
from client_agent.learning.layout import Layout
from client_agent.learning.learner import Array, Arrays, Context, Parameter
from client_agent.learning.opening import DataTrainer, TaskLearner, initialize
from client_agent.learning.state import decode_state
from client_agent.links.kafka import KafkaLink
from client_agent.outbox.outbox import Outbox
from client_agent.running.loop import DeviceLoop, Stats
from client_agent.running.profiles import SimulationOptions
from schemas.policy import Privacy
from tests.learners import FlatLearner
from tests.unit.client_agent.running.test_loop import Server, settings
from tests.worlds.builders import KEY, TASK, device_id
from tests.worlds.device_world import World, policy

PRIVATE = policy(privacy=Privacy(noise_multiplier=1.0, rho_max=9.0))
ZEROS = np.zeros(650, np.float32)
Answer = Callable[[], Any]


class Unreadable:
    """A tensor of another framework, which refuses to become an array."""

    def __array__(self, *_: object, **__: object) -> Array:
        raise RuntimeError("call detach() first")


class Moody(FlatLearner):
    """Misbehaves under one lease, by default its first, and otherwise trains."""

    def __init__(self, answer: Answer, lease: int = 1) -> None:
        super().__init__(650)
        self._answer, self._lease, self._leases = answer, lease, 0

    def initialize(self, seed: int) -> dict[str, Parameter | Array]:
        """What trains, and what each device has for itself."""
        return {**super().initialize(seed), "own": Parameter(np.zeros(2), "local")}

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """As it was told, once."""
        self._leases += 1
        context.state["leases"] = context.state.get("leases", 0) + 1
        if self._leases == self._lease:
            return self._answer()  # type: ignore[no-any-return]
        return super().train(start, data, context=context)


def _raise(error: BaseException) -> Any:
    raise error


def _fork_and_raise() -> Any:
    if (child := os.fork()) == 0:
        raise RuntimeError("this is the child")
    os.waitpid(child, 0)
    raise RuntimeError("this is the parent")


MISDEEDS: dict[str, tuple[Answer, str]] = {
    "raises": (
        lambda: _raise(KeyError("logits")),
        r"training: KeyError: 'logits' \(.*test_loop_bad_learners\.py:\d+\)",
    ),
    "ends its process": (lambda: sys.exit(3), r"it ended its process \(sys\.exit\(3\)\)"),
    "forks": (_fork_and_raise, "this is the parent"),
    "no memory": (lambda: _raise(MemoryError()), "training: MemoryError"),
    "NaN": (lambda: ({"flat": ZEROS + np.nan}, {}), "NaN or infinity in 'flat'.*learning_rate.*data"),
    "infinity": (lambda: ({"flat": ZEROS + np.inf}, {}), "NaN or infinity in 'flat'"),
    "another shape": (lambda: ({"flat": ZEROS[:-1]}, {}), r"'flat' has shape \(649,\), expected \(650,\)"),
    "another name": (lambda: ({"flut": ZEROS}, {}), r"does not have: \['flut'\]; it has \['flat', 'own'\]"),
    "more arrays": (lambda: ({"flat": ZEROS, "b": ZEROS}, {}), r"does not have: \['b'\]"),
    "a name that is no text": (lambda: ({3: ZEROS}, {}), r"does not have: \['3'\]"),
    "another shape of its own": (lambda: ({"own": ZEROS}, {}), r"'own' has shape \(650,\), expected \(2,\)"),
    "texts": (lambda: ({"flat": np.full(650, "0.5")}, {}), "'flat' is no array of numbers"),
    "imaginary numbers": (lambda: ({"flat": ZEROS * 1j}, {}), "'flat' is no array of numbers.*complex"),
    "a ragged list": (lambda: ({"flat": [[1], [2, 3]]}, {}), "'flat' is no array of numbers"),
    "a foreign tensor": (lambda: ({"flat": Unreadable()}, {}), "'flat' is no array of numbers.*detach"),
    "nothing": (lambda: None, "training gave NoneType, expected a pair"),
    "a list": (lambda: ([ZEROS], {}), "expected a pair: arrays by name"),
    "no pair": (lambda: {"flat": ZEROS}, "training gave dict, expected a pair"),
    "metrics that are no numbers": (lambda: ({"flat": ZEROS}, {"loss": "low"}), "metrics must be numbers by name"),
    "a metric of many values": (lambda: ({"flat": ZEROS}, {"loss": ZEROS}), "metrics must be numbers by name"),
    "a state that cannot be kept": (
        lambda: ({"own": np.array([object(), object()])}, {}),
        "state cannot be kept.*it may hold",
    ),
}


def live(world: World, folder: Path, learner: Moody) -> tuple[Server, Stats]:
    """A device lives with this learner until it was admitted thrice, or for a minute of virtual time."""
    [setting] = settings(world, folder, 1, options=SimulationOptions(drop_probability=0, presence=1.0))
    parameters = initialize(learner, 0)
    layout = Layout.describe_parameters(parameters, averaged_scale=1.0)
    trainer = DataTrainer(TaskLearner(learner, layout, parameters), [0] * 7)
    link = KafkaLink(world.log, KEY.public_key, [device_id("sim0")])
    loop, server = DeviceLoop(link, [replace(setting, trainer=trainer)], now_ms=0), Server(world)
    expired = 0
    for now_ms in range(0, 60_000, 250):
        loop.step(now_ms)
        server.step()
        # A lease that got no update expires, and the next one is another.
        if loop.count().given_up > expired:
            expired += 1
            server.expire_all()
        if loop.count().admitted >= 3:
            break
    return server, loop.count()


class Loading(FlatLearner):
    """Gives its devices this for data."""

    def __init__(self, data: Any) -> None:
        super().__init__(2)
        self._data = data

    def load(self, part: Part) -> Any:
        """Whatever it was given."""
        del part
        return self._data


def test_data_without_a_length_or_without_examples_are_named() -> None:
    """A device that cannot be told how many examples it has, or has none, says whose data, and what to give instead."""

    def load(data: Any, part: Part = Part(index=2, count=5, plugin="m:data")) -> Any:  # noqa: B008
        learner = Loading(data)
        parameters = initialize(learner, 0)
        layout = Layout.describe_parameters(parameters, averaged_scale=1.0)
        return TaskLearner(learner, layout, parameters).load(part)

    for data, message in (
        ((row for row in [1]), "generator has no length: give arrays"),
        (None, "NoneType has no length"),
    ):
        with pytest.raises(DataError, match=rf"data for device 2 of 5: TypeError: {message}"):
            load(data)
    for data in ([], {}, (), np.zeros((0, 3)), (np.zeros((0, 3)), np.zeros(0))):
        assert load(data) is data
        with pytest.raises(DataError, match="data 'm:data' for the held-out split: no examples"):
            load(data, Part(split="test", plugin="m:data"))
    assert load([1]) == [1]


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_lease_is_given_up_and_the_device_goes_on(misdeed: str, tmp_path: Path) -> None:
    """What was not finished is never sent; the reason is counted once; the next lease is trained as if nothing was."""
    answer, message = MISDEEDS[misdeed]
    world = World()
    server, stats = live(world, tmp_path, Moody(answer))
    assert (stats.failed, stats.given_up, stats.untrained) == (0, 1, 0)
    [(reason, count)] = stats.reasons.items()
    assert count == 1
    assert re.search(message, reason)
    assert stats.trained == stats.admitted == len(server.outcomes) == 3
    assert all(world.seen(update).any() for update in world.submitted())


@pytest.mark.parametrize(
    "misdeed", ["raises", "ends its process", "forks", "NaN", "texts", "a state that cannot be kept"]
)
def test_with_privacy_a_zero_vector_is_sent_instead(misdeed: str, tmp_path: Path) -> None:
    """Who arrives must not depend on data: that update is zeros, and is counted with its reason as untrained."""
    answer, message = MISDEEDS[misdeed]
    world = World(PRIVATE)
    _, stats = live(world, tmp_path, Moody(answer, lease=2))
    assert (stats.failed, stats.given_up, stats.untrained) == (0, 0, 1)
    [(reason, count)] = stats.reasons.items()
    assert count == 1
    assert re.search(message, reason)
    folder = tmp_path / "sim0"
    outbox = Outbox(folder, TASK, identity=open_identity(folder))
    # Of the lease that failed nothing is remembered, though the learner had noted it.
    assert decode_state(outbox.state or b"")["own"] == {"leases": stats.trained}
    assert [world.seen(update).any() for update in world.submitted()] == [True, False, True]
