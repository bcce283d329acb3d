"""One real device in the foreground, on a folder of its own."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_agent import schedule
from client_agent.identity import open_identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.learner import Arrays, Context
from client_agent.links.kafka import KafkaLink
from client_agent.locks import FolderInUse
from client_agent.outbox.outbox import OutboxError
from client_agent.running import watch
from client_agent.running.foreground import DeviceOptions, run_device
from client_agent.running.loop import Stats
from schemas.policy import Selection
from tests.learners import FlatLearner
from tests.unit.client_agent.running.test_loop import Server
from tests.worlds.builders import KEY, create_task
from tests.worlds.device_world import DIGITS_TENSORS, TASK, World, policy


def test_one_device_in_the_foreground(tmp_path: Path) -> None:
    """Guarantee: `run_device` takes its own data and identity from its folder, and ends when it is told to."""
    world = World()
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 64)), y=[0, 1, 2])
    steps = 0

    def is_done(stats: Stats) -> bool:
        nonlocal steps
        steps += 1
        return stats.checked_in > 0

    link = partial(KafkaLink, world.log, KEY.public_key)
    stats = run_device(link, DeviceOptions(task=TASK, folder=tmp_path), is_done=is_done)
    assert stats.checked_in == 1
    [checkin] = world.checkins()
    assert checkin.samples == 3
    assert checkin.device == open_identity(tmp_path).device


def test_two_processes_never_share_a_device(tmp_path: Path) -> None:
    """Guarantee: a second start on a folder is refused while the first runs, and told its pid; another task is not."""
    world = World()
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 64)), y=[0, 1, 2])
    options = DeviceOptions(task=TASK, folder=tmp_path)

    def start(second: DeviceOptions) -> Stats:
        return run_device(partial(KafkaLink, world.log, KEY.public_key), second, is_done=lambda _: True)

    def start_others(_: Stats) -> bool:
        with pytest.raises(FolderInUse, match=rf"process {os.getpid()}\b"):
            start(options)
        create_task(world.log, policy(), task="another", model=world.model, tensors=DIGITS_TENSORS)
        start(replace(options, task="another"))
        return True

    run_device(partial(KafkaLink, world.log, KEY.public_key), options, is_done=start_others)
    start(options)
    assert tmp_path.stat().st_mode & 0o077 == 0


def test_a_broken_device_in_the_foreground_says_so(tmp_path: Path) -> None:
    """Guarantee: what stops a real device is told, not hidden in a count."""
    world = World()
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 64)), y=[0, 1, 2])
    (tmp_path / f"{TASK}.outbox").write_bytes(b"junk")
    with pytest.raises(OutboxError, match="outbox"):
        run_device(
            partial(KafkaLink, world.log, KEY.public_key),
            DeviceOptions(task=TASK, folder=tmp_path),
            is_done=lambda _: False,
        )


class Hanging(FlatLearner):
    """Loops for ever under its first lease."""

    leases = 0

    def train(self, start: Arrays, data: Any, *, context: Context) -> tuple[Arrays, dict[str, float]]:
        """As it does, or a delta."""
        Hanging.leases += 1
        while Hanging.leases == 1:
            pass
        return super().train(start, data, context=context)


def test_a_device_in_the_foreground_outlives_a_training_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guarantee: the lease of a training without end is given up at its end, told, and the next one is trained."""
    monkeypatch.setattr(watch, "GRACE_S", 0.1)
    monkeypatch.setattr(schedule, "ANSWER_MS", 200)
    name = f"{__name__}:Hanging"
    selection = Selection(devices_expected=8, concurrency=8, lease_s=1.0)
    rules = policy(model="", learner=name, learner_arguments={"parameters": 6}, selection=selection)
    server = Server(World(rules, parameters=6))

    def is_done(stats: Stats) -> bool:
        if stats.given_up > server.expired:
            server.expire_all()
        server.step()
        return stats.admitted > 0

    link = partial(KafkaLink, server.world.log, KEY.public_key)
    options = DeviceOptions(task=TASK, folder=tmp_path, allowed=AllowList().including(name))
    stats = run_device(link, options, is_done=is_done)
    [(reason, count)] = stats.reasons.items()
    assert (count, stats.given_up, stats.trained) == (1, 1, 1)
    assert "its lease" in reason or "the lease had ended" in reason
    assert "test_foreground.py:" in reason
