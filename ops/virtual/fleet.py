"""The simulated devices of a run in one process: the real code, with keys and habits from the policy's seeds."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client_agent.files import open_private_folder
from client_agent.hostile.attacks import Attack
from client_agent.hostile.crew import HostileCrew
from client_agent.identity import Identity
from client_agent.learning.allow_list import AllowList
from client_agent.learning.data import Part
from client_agent.link import Link
from client_agent.running.fleet import DATA
from client_agent.running.loop import DeviceLoop, Stats
from client_agent.running.profiles import SimulationOptions
from client_agent.running.work import Work, open_work
from client_agent.setting import DeviceSetting
from ops.history.prospects import Crew, Prospects
from ops.history.task_view import TaskView
from ops.virtual.server import VirtualClock
from schemas.events import TaskCreated


@dataclass(slots=True)
class Cast:
    """The devices that could load their data, and why the others could not."""

    settings: list[DeviceSetting] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    attack: str = ""

    @property
    def ids(self) -> list[str]:
        """The ids of those that could."""
        return [setting.identity.device for setting in self.settings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Casting:
    """Which devices a run has. `attack`: the one that some of them carry out, as a test."""

    count: int
    allowed: AllowList
    simulation: SimulationOptions
    attack: Attack | None = None


def open_cast(created: TaskCreated, casting: Casting, *, folder: Path) -> Cast:
    """All devices of a task, in the order of their indices. Raises PluginError, ModelError where none can be one."""
    work, count = open_work(created, allowed=casting.allowed, data="", fallback=DATA), casting.count
    names = [f"sim{work.seeds.habits}-{index:05d}" for index in range(count)]

    def find_part(index: int) -> Part:
        # With a folder, as in a fleet: a learner may keep files there.
        return Part(index=index, count=count, folder=folder / names[index])

    crew = HostileCrew(casting.attack, count, work, find_part, created.policy.lease_ms)
    cast = Cast(attack=str(casting.attack or ""))
    for index, name in enumerate(names):
        open_private_folder(folder / name)
        try:
            trainer = crew.make_trainer(index)
        # A user's own code may raise anything; the others of a fleet go on too.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            cast.failed.append(f"{name}: {type(error).__name__}: {error}")
            continue
        cast.settings.append(
            DeviceSetting(
                task=created.task,
                identity=derive_identity(work, index, name=name),
                folder=folder / name,
                trainer=trainer,
                allowed=casting.allowed,
                profile=crew.make_profile(index, casting.simulation),
                place=str(index),
                synced=False,
                differing=work.differing,
            )
        )
    return cast


def derive_identity(work: Work, index: int, *, name: str) -> Identity:
    """The key of a device. Whoever knows the seed can sign for it, which is why no real device has such a key."""
    drawn_from = f"fedlog/deterministic/device/{work.seeds.habits}/{index}"
    return Identity(name, Ed25519PrivateKey.from_private_bytes(hashlib.sha256(drawn_from.encode()).digest()))


class VirtualFleet:
    """The devices at work, and whether they can still bring their task forward."""

    def __init__(self, link: Link, cast: Cast, *, clock: VirtualClock, down_ms: int) -> None:
        self._failed, self._clock, self._attack = cast.failed, clock, cast.attack
        self._loop = DeviceLoop(link, cast.settings, now_ms=clock.now_ms, down_ms=down_ms)
        self._prospects = Prospects(read_clock_s=clock.read_s)

    def step(self) -> int:
        """Wake the devices that are due; when the next one is, in ms."""
        return self._loop.step(self._clock.now_ms)

    def count(self) -> Stats:
        """What all devices did, with those that could not be put together."""
        failed = len(self._failed)
        reasons = dict(Counter(text.partition(": ")[2] for text in self._failed))
        lost = Stats(devices=failed, failed=failed, failed_for=reasons, attack=self._attack)
        return lost + self._loop.count()

    def judge(self, view: TaskView) -> str:
        """Why there is nothing to wait for any more; empty while there is."""
        stats = self._loop.count()
        living = stats.devices - stats.failed
        if not living:
            failed, first = stats.failed + len(self._failed), [*self._failed, stats.error][0]
            return f"{failed} of {stats.devices + len(self._failed)} devices failed. The first: {first}"
        reason = next(iter(stats.reasons), "")
        lost = stats.given_up + stats.untrained
        crew = Crew(living=living, unfit=stats.unfit, trained=stats.trained, lost=lost, reason=reason)
        return self._prospects.judge(crew, view)
