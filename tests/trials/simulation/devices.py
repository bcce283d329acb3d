"""The devices of a simulated world: the real device code, with profiles that are drawn and a training stub."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import UNSET

from client_agent.conditions import Conditions
from client_agent.identity import Identity
from client_agent.links.kafka import KafkaLink
from client_agent.running.loop import DeviceLoop
from client_agent.running.profiles import SimulatedCrash
from client_agent.setting import DeviceSetting
from schemas.policy import Policy
from schemas.tensors import Floats
from tests.learners import StubTrainer
from tests.trials.simulation.faults import Faults
from tests.trials.simulation.shaky import DeviceLog
from tests.trials.simulation.tasks import Task
from tests.worlds.builders import ALLOWED, KEY


class FaultyProfile:
    """A device's profile under the world's faults: it leaves and comes back, is slow or quick, and dies at any step."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._back_ms = 0

    def read_conditions(self, now_ms: int) -> Conditions:
        """Good, or anything."""
        draw = self._faults.random
        if self._faults.healed or draw.random() < 0.8:
            return Conditions()
        return Conditions(battery_percent=draw.randrange(101), charging=draw.random() < 0.5)

    def find_return_ms(self, now_ms: int) -> int:
        """Away for up to a minute and a half, now and then."""
        if now_ms >= self._back_ms and self._faults.strikes("device away"):
            self._back_ms = now_ms + self._faults.random.randrange(500, 90_000)
        return now_ms if self._faults.healed else max(now_ms, self._back_ms)

    def choose_training_ms(self, lease: str, samples: int) -> int:
        """Between nothing and half a minute, mostly short."""
        draw = self._faults.random
        return draw.randrange(1_500) if self._faults.healed or draw.random() < 0.8 else draw.randrange(30_000)

    def note_step(self, step: str) -> None:
        """Raises SimulatedCrash now and then."""
        if self._faults.strikes("device dies"):
            self._faults.hits[f"device died at {step}"] += 1
            raise SimulatedCrash(step)


def train(policy: Policy, flat: Floats, *, seed: int) -> Floats:
    """Stands in for torch: a delta by the seed; some far beyond the clip, one in thirty not finite."""
    draw = np.random.default_rng(seed)
    kind = draw.random()
    if kind < 0.03:
        return np.full(flat.size, np.nan, np.float32)
    if policy.drift is not UNSET:
        return _answer(flat)
    scale = policy.clipping.norm * (0.1 if kind < 0.7 else 3.0)
    return (draw.normal(0, scale, flat.size) - flat / 8).astype(np.float32)


def _answer(last: Floats) -> Floats:
    """All in the bin that the last version has fewer in, so that everybody's examples move together."""
    answer = np.zeros(last.size, np.float32)
    answer[int(last[0] > last[1])] = 1
    return answer


@lru_cache(maxsize=64)
def identity(name: str) -> Identity:
    """The same key for the same name."""
    return Identity(name, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest()))


@lru_cache(maxsize=64)
def examples(name: str) -> tuple[np.ndarray, np.ndarray]:
    """What never may leave the device: bytes that no other has."""
    raw = hashlib.sha256(f"{name}'s examples".encode()).digest()
    return np.frombuffer(raw, "<f4").reshape(4, 2), np.arange(4)


def setting(name: str, task: str, *, folder: Path, faults: Faults) -> DeviceSetting:
    """What a device of the world is made of; a restart finds the same folder."""
    place = folder / name
    place.mkdir(exist_ok=True, parents=True)
    return DeviceSetting(
        task=task,
        identity=identity(name),
        folder=place,
        trainer=StubTrainer(train, sample_count=4, data=examples(name)),
        allowed=ALLOWED,
        profile=FaultyProfile(faults),
        synced=False,
    )


def make_loop(task: Task, log: DeviceLog, *, folder: Path, faults: Faults, now_ms: int) -> DeviceLoop:
    """The devices of a task, in one process that begins by this clock."""
    link = KafkaLink(log, KEY.public_key, [identity(name).device for name in task.devices])
    mine = [setting(name, task.name, folder=folder / task.name, faults=faults) for name in task.devices]
    return DeviceLoop(link, mine, now_ms=now_ms)
