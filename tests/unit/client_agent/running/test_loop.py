"""Many devices in one process, by virtual time: dying, being away and coming back, against a server that says yes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_agent.device import Device
from client_agent.links import kafka as link_module
from client_agent.links.kafka import KafkaLink
from client_agent.outbox.outbox import Outbox
from client_agent.running.loop import UNKNOWN_TASK_MS_MAX, DeviceLoop, Stats
from client_agent.running.profiles import SimulatedCrash, SimulatedProfile, SimulationOptions
from client_agent.setting import DeviceSetting
from schemas.canonical import decode
from schemas.events import DeviceCheckedIn, LeaseAbandoned, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.leases import Lease, read_lease
from schemas.signing import parse_signed
from schemas.topics import CHECKINS, UPDATES
from streams.log import LogUnavailable, TopicPartition
from streams.packing import unpack
from tests.learners import StubTrainer, train_by_one
from tests.worlds.builders import KEY, device_id, lease
from tests.worlds.device_world import AskingLink, World, large

OPTIONS = SimulationOptions(
    training_ms=300, drop_probability=0.3, day_ms=20_000, presence=0.7, away_after_death_ms=1_000
)


class Server:
    """Grants every check-in a lease, one in flight a device, and admits every update once; some answers get lost."""

    def __init__(self, world: World, *, lost: float = 0.0, seed: int = 0) -> None:
        self.world = world
        self.leases: dict[str, Lease] = {}
        self.outcomes: dict[str, int] = {}
        self._random = random.Random(seed)
        self._lost = lost
        self.expired = 0
        places = [TopicPartition(topic, world.place) for topic in (CHECKINS.name, UPDATES.name)]
        self._reader = world.log.reader(dict.fromkeys(places, 0))

    def step(self) -> None:
        for record in chain.from_iterable(map(unpack, self._reader.poll(0))):
            payload = parse_signed(record.value or b"").payload
            if record.topic == CHECKINS.name:
                said: Any = decode(payload, DeviceCheckedIn | LeaseAbandoned)  # type: ignore[arg-type]
                if isinstance(said, LeaseAbandoned):
                    self.expired += self.leases.pop(said.device, None) is not None
                else:
                    self.world.note_checkin(record.value or b"")
                    self._grant(said)
            else:
                self._admit(decode(payload, UpdateSubmitted), record.value or b"")

    def expire_all(self) -> None:
        """Leases without an update are over, as after their deadline."""
        self.expired += len(self.leases)
        self.leases.clear()

    def _grant(self, checkin: DeviceCheckedIn) -> None:
        if checkin.device not in self.leases:
            number = hashlib.sha256(f"{checkin.device}/{len(self.outcomes) + self.expired}".encode()).hexdigest()[:32]
            self.leases[checkin.device] = lease(
                checkin.device, of=self.world.created, lease=number, public_key=checkin.public_key, deadline_ms=0
            )
        self._say(self.world.grant(self.leases[checkin.device]))

    def _admit(self, update: UpdateSubmitted, record: bytes) -> None:
        lease = read_lease(update.sealed)
        if self.outcomes.setdefault(lease.lease, 0) == 0:
            assert self.leases.pop(lease.device) == lease
        self.outcomes[lease.lease] += 1
        self._say(self.world.outcome(lease, "admitted", record=record))

    def _say(self, answer: object) -> None:
        if self._random.random() >= self._lost:
            self.world.say(answer)  # type: ignore[arg-type]


def settings(
    world: World, folder: Path, count: int, *, seed: int = 0, options: SimulationOptions = OPTIONS
) -> list[DeviceSetting]:
    names = [f"sim{index}" for index in range(count)]
    return [
        world.setting(folder / name, name=name, profile=SimulatedProfile(options, device=name, seed=seed))  # type: ignore[arg-type]
        for name in names
    ]


def lived(folder: Path, *, until_ms: int, lost: float = 0.0, seed: int = 0) -> tuple[World, Server, Stats]:
    """The world after 20 devices have lived in it."""
    world = World()
    device_settings = settings(world, folder, 20, seed=seed)
    link = KafkaLink(world.log, KEY.public_key, [setting.identity.device for setting in device_settings])
    loop, server, now_ms = DeviceLoop(link, device_settings, now_ms=0, down_ms=1_000), Server(world, lost=lost), 0
    while now_ms < until_ms:
        next_ms = loop.step(now_ms)
        server.step()
        now_ms = min(max(now_ms + 1, next_ms), now_ms + 50)
    return world, server, loop.count()


def test_nothing_is_lost_or_trained_twice(tmp_path: Path) -> None:
    """Guarantee: with deaths, absence and lost answers, every lease ends admitted, and devices go on and on."""
    world, server, stats = lived(tmp_path, until_ms=120_000, lost=0.2)
    assert stats.died > 20
    assert stats.failed == 0
    assert len(server.outcomes) > 100
    assert len(server.leases) <= 20
    values = [record.value for record in world.records(UPDATES.name)]
    assert len(set(values)) == len(server.outcomes)
    assert len(values) > len(server.outcomes)
    assert 0 <= world.trainings - len(server.outcomes) <= 20
    assert stats.trained == world.trainings


def test_the_same_seed_lives_the_same_life(tmp_path: Path) -> None:
    """Guarantee: a simulation repeats record by record; another seed lives another life."""
    first, _, stats = lived(tmp_path / "a", until_ms=30_000)
    again, _, same = lived(tmp_path / "b", until_ms=30_000)
    other, _, _ = lived(tmp_path / "c", until_ms=30_000, seed=1)
    assert stats == same
    for topic in (CHECKINS.name, UPDATES.name):
        assert [r.value for r in first.records(topic)] == [r.value for r in again.records(topic)]
    assert len(other.records(UPDATES.name)) != len(first.records(UPDATES.name))


@pytest.mark.parametrize(("count", "training_ms"), [(1, 60_000), (8, 3_000), (8, 900)])
@pytest.mark.parametrize("make", [World, large])
def test_long_training_sends_once(make: Callable[[], World], tmp_path: Path, *, count: int, training_ms: int) -> None:
    """Guarantee: an outcome is waited for from when the update was sent, however long all together trained."""
    world, clock = make(), [0]

    def slow(*given: object, seed: int) -> np.ndarray:
        clock[0] += training_ms
        return train_by_one(*given, seed=seed)  # type: ignore[arg-type]

    plain = settings(world, tmp_path, count, options=SimulationOptions(drop_probability=0, presence=1.0))
    link = KafkaLink(world.log, KEY.public_key, [device_id(f"sim{index}") for index in range(count)])
    loop = DeviceLoop(
        link, [replace(one, trainer=StubTrainer(slow), clock_ms=lambda: clock[0]) for one in plain], now_ms=0
    )
    server = Server(world)
    while len(server.outcomes) < 3 * count:
        clock[0] += 1_000
        loop.step(clock[0])
        loop.step(clock[0])  # before anybody can have answered
        server.step()
    assert [*server.outcomes.values()] == [1] * len(server.outcomes)


def test_one_broken_device_does_not_stop_the_others(tmp_path: Path) -> None:
    """Guarantee: a device whose training raises is counted and named, the others go on."""
    world = World()

    def broken(*_: object, **__: object) -> np.ndarray:
        raise ValueError("a tensor has the wrong shape")

    good, bad = settings(world, tmp_path, 2, options=SimulationOptions(drop_probability=0, presence=1.0))
    loop = DeviceLoop(
        KafkaLink(world.log, KEY.public_key, [device_id("sim0"), device_id("sim1")]),
        [good, replace(bad, trainer=StubTrainer(broken))],
        now_ms=0,
    )
    server = Server(world)
    for now_ms in range(0, 10_000, 50):
        loop.step(now_ms)
        server.step()
    stats = loop.count()
    assert (stats.failed, stats.admitted > 2) == (1, True)
    assert stats.error == "sim1: ValueError: a tensor has the wrong shape"


def test_devices_without_examples_are_counted(tmp_path: Path) -> None:
    """Guarantee: no waiting mends what such a device lacks, so its fleet is told how many there are."""
    world = World()
    both = settings(world, tmp_path, 2, options=SimulationOptions(drop_probability=0, presence=1.0))
    loop = DeviceLoop(AskingLink(world, [device_id("sim0"), device_id("sim1")]), both, now_ms=0)
    loop.step(0)
    for name, why in (("sim0", "no_slot"), ("sim1", "too_few_samples")):
        world.say(world.decline(why, 1_000, device=device_id(name)))  # type: ignore[arg-type]
    loop.step(10)
    assert (loop.count().declined, loop.count().unfit) == (2, 1)


def test_a_task_that_nobody_knows_is_given_up(tmp_path: Path) -> None:
    """Guarantee: a wrong name is told after a while, and not before: the task may be created a little later."""
    world = World()
    known, unknown = settings(world, tmp_path, 2, options=SimulationOptions(drop_probability=0, presence=1.0))
    loop = DeviceLoop(AskingLink(world, [device_id("sim0"), device_id("sim1")]), [known, unknown], now_ms=0)
    failed_ms: dict[str, int] = {}
    for now_ms in range(0, 2 * UNKNOWN_TASK_MS_MAX, 5_000):
        loop.step(now_ms)
        failed_ms |= {name: now_ms for name in loop._errors if name not in failed_ms}
        # One of the two hears something else in between, as when the task is created late.
        reason = "no_slot" if now_ms == UNKNOWN_TASK_MS_MAX // 2 else "unknown_task"
        for name, why in (("sim0", reason), ("sim1", "unknown_task")):
            world.say(world.decline(why, 1_000, device=device_id(name)))  # type: ignore[arg-type]
        if 0 < now_ms < UNKNOWN_TASK_MS_MAX // 2:
            assert loop.count().declined_for == "unknown_task"
    assert UNKNOWN_TASK_MS_MAX < failed_ms[device_id("sim1")] < 1.2 * UNKNOWN_TASK_MS_MAX
    assert 1.5 * UNKNOWN_TASK_MS_MAX < failed_ms[device_id("sim0")] < 1.7 * UNKNOWN_TASK_MS_MAX
    assert loop.count().failed == 2
    assert loop.count().error == f"sim1: the server has known no task 'digits' for {UNKNOWN_TASK_MS_MAX // 1000} s"


def test_a_machine_that_slept_has_not_waited(tmp_path: Path) -> None:
    """Guarantee: two answers with a night between them are no reason to give a task up."""
    world = World()
    known = settings(world, tmp_path, 1, options=SimulationOptions(drop_probability=0, presence=1.0))
    loop = DeviceLoop(AskingLink(world, [device_id("sim0")]), known, now_ms=0)
    for now_ms in (0, 5_000, 10_000, 8 * 3_600_000):
        loop.step(now_ms)
        world.say(world.decline("unknown_task", 1_000, device=device_id("sim0")))
    assert loop.count().failed == 0


def test_without_a_broker_devices_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a log that is unavailable for a while costs time, and nothing else."""
    world = World()
    device_settings = settings(world, tmp_path, 5, options=SimulationOptions(drop_probability=0, presence=1.0))
    loop = DeviceLoop(
        KafkaLink(world.log, KEY.public_key, [device_id(f"sim{i}") for i in range(5)]), device_settings, now_ms=0
    )
    server = Server(world)
    append = world.log.append

    def down(_: object) -> list[int]:
        raise LogUnavailable("no broker")

    for now_ms in range(0, 60_000, 50):
        is_down = 5_000 < now_ms < 15_000
        monkeypatch.setattr(world.log, "append", down if is_down else append)
        loop.step(now_ms)
        if not is_down:
            server.step()
    stats = loop.count()
    assert stats.failed == 0
    assert stats.admitted > 50
    assert len(server.outcomes) - stats.admitted <= 5


def granted(world: World, folder: Path, count: int) -> DeviceLoop:
    """Devices of which each has a lease, and an update to be stored in `bodies` after one more step."""
    ready = settings(world, folder, count, options=SimulationOptions(training_ms=1, drop_probability=0, presence=1.0))
    loop, server = (
        DeviceLoop(KafkaLink(world.log, KEY.public_key, [device_id(f"sim{i}") for i in range(count)]), ready, now_ms=0),
        Server(world),
    )
    loop.step(0)
    server.step()
    loop.step(1)
    return loop


def test_bodies_are_stored_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: what many devices have to store goes out in one append, before the record that names them."""
    world = large()
    loop, append, appended = granted(world, tmp_path, 5), world.log.append, list[list[str]]()
    monkeypatch.setattr(world.log, "append", lambda d: (appended.append([one.topic for one in d]), append(d))[1])
    loop.step(100)
    assert appended == [["bodies"] * 5, ["updates"]]
    assert len(world.records("updates")) == 5
    assert all(world.seen(update).any() for update in world.submitted())


def test_much_does_not_wait_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: bodies are held back only up to a bound in bytes, however many devices have one."""
    world = large()
    loop = granted(world, tmp_path, 5)
    monkeypatch.setattr(link_module, "HELD_BACK_BYTES_MAX", 1)
    append, appended = world.log.append, list[list[str]]()
    monkeypatch.setattr(world.log, "append", lambda d: (appended.append([one.topic for one in d]), append(d))[1])
    loop.step(100)
    assert appended == [*[["bodies"]] * 5, ["updates"]]


def test_a_body_that_was_not_stored_is_stored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: when no broker takes the bodies nothing is submitted, and each is stored a little later."""
    world = large()
    loop = granted(world, tmp_path, 3)

    def down(_: object) -> list[int]:
        raise LogUnavailable("no broker")

    with monkeypatch.context() as away:
        away.setattr(world.log, "append", down)
        loop.step(100)
    assert world.submitted() == []
    for now_ms in range(100, 10_000, 50):
        loop.step(now_ms)
    assert len({update.body.sha256 for update in world.submitted()}) == 3


def test_a_device_that_fails_with_its_body_stays_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: who failed for good is counted once, and never at work again, wherever it failed."""
    world = large()
    loop = granted(world, tmp_path, 2)
    keep_address = Outbox.keep_address

    def full(outbox: Outbox, update: str, body: BodyRef) -> None:
        monkeypatch.setattr(Outbox, "keep_address", keep_address)
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(Outbox, "keep_address", full)
    for now_ms in range(100, 10_000, 50):
        loop.step(now_ms)
    assert (loop.count().failed, loop.count().away) == (1, 0)
    assert len({update.body.sha256 for update in world.submitted()}) == 1


def test_a_device_that_dies_before_its_body_is_stored_stays_down(tmp_path: Path) -> None:
    """Guarantee: a body that outlives its device is submitted by the device's next life, not while it is down."""
    world = large()
    loop = granted(world, tmp_path, 2)
    wake, dead = Device.wake, "sim0"

    def fatal(device: Device, now_ms: int) -> int:
        next_ms = wake(device, now_ms)
        if device.setting.identity.label == dead:
            raise SimulatedCrash("right after its body was handed over")
        return next_ms

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Device, "wake", fatal)
        loop.step(100)
    assert len(world.submitted()) == 1
    loop.step(200)
    assert len(world.submitted()) == 1
    for now_ms in range(200, 10_000, 50):
        loop.step(now_ms)
    assert len({update.body.sha256 for update in world.submitted()}) == 2


def test_closed_devices_are_counted(tmp_path: Path) -> None:
    """Guarantee: a loop counts the devices that know that the task is over."""
    world = World()
    loop = DeviceLoop(
        AskingLink(world, [device_id("sim0")]),
        settings(world, tmp_path, 1, options=SimulationOptions(presence=1.0)),
        now_ms=0,
    )
    loop.step(0)
    world.say(world.decline("closed", 10, device=device_id("sim0")))
    loop.step(1)
    assert loop.count().closed == 1


def test_another_source_is_told_with_the_counts(tmp_path: Path) -> None:
    """Guarantee: whoever reads the progress of devices sees that what trains here is not what the operator recorded."""
    world = World()
    told = [replace(one, differing=("mine:net", "mine:data")) for one in settings(world, tmp_path, 2)]
    stats = DeviceLoop(KafkaLink(world.log, KEY.public_key, []), told, now_ms=0).count()
    assert stats.source_differs == "mine:net, mine:data"
