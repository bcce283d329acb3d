"""Many devices in one process, by virtual time: dying, being away and coming back, against a server that says yes."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client_agent.device import Device, Setting
from client_agent.links import kafka as link_module
from client_agent.links.kafka import Link
from client_agent.outbox.outbox import Outbox, OutboxError
from client_agent.running.foreground import DeviceOptions, run_device
from client_agent.running.loop import Crowd, Stats
from client_agent.running.profiles import Died, Habits, Life
from schemas.canonical import decode
from schemas.events import Declined, DeviceCheckedIn, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.leases import Lease
from schemas.signing import unsigned
from schemas.topics import ANSWERS, CHECKINS, UPDATES, partition_of
from streams.log import LogUnavailable, TopicPartition
from tests.worlds.builders import lease
from tests.worlds.device_world import TASK, World, large, train_by_one

HABITS = Habits(training_ms=300, drop_probability=0.3, day_ms=20_000, presence=0.7, away_after_death_ms=1_000)


class Server:
    """Grants every check-in a lease, one in flight a device, and admits every update once; some answers get lost."""

    def __init__(self, world: World, *, lost: float = 0.0, seed: int = 0) -> None:
        self.world = world
        self.leases: dict[str, Lease] = {}
        self.outcomes: dict[str, int] = {}
        self._random = random.Random(seed)
        self._lost = lost
        places = [TopicPartition(topic, world.place) for topic in (CHECKINS.name, UPDATES.name)]
        self._reader = world.log.reader(dict.fromkeys(places, 0))

    def step(self) -> None:
        for record in self._reader.poll(0):
            payload = unsigned(record.value or b"").payload
            if record.topic == CHECKINS.name:
                self._grant(decode(payload, DeviceCheckedIn))
            else:
                self._admit(decode(payload, UpdateSubmitted))

    def _grant(self, checkin: DeviceCheckedIn) -> None:
        if checkin.device not in self.leases:
            number = hashlib.sha256(f"{checkin.device}/{len(self.outcomes)}".encode()).hexdigest()[:32]
            self.leases[checkin.device] = lease(
                checkin.device, of=self.world.created, lease=number, public_key=checkin.public_key, deadline_ms=0
            )
        self._say(self.world.grant(self.leases[checkin.device]), checkin.device)

    def _admit(self, update: UpdateSubmitted) -> None:
        payload, _ = decode(update.sealed, list[bytes])
        lease = decode(payload, Lease)
        if self.outcomes.setdefault(lease.lease, 0) == 0:
            assert self.leases.pop(lease.device) == lease
        self.outcomes[lease.lease] += 1
        self._say(self.world.outcome(lease, "admitted"), lease.device)

    def _say(self, answer: object, device: str) -> None:
        if self._random.random() >= self._lost:
            self.world.say(answer, device)  # type: ignore[arg-type]


def settings(world: World, folder: Path, count: int, *, seed: int = 0, habits: Habits = HABITS) -> list[Setting]:
    names = [f"sim{index}" for index in range(count)]
    return [
        world.setting(folder / name, name=name, life=Life(habits, device=name, seed=seed))  # type: ignore[arg-type]
        for name in names
    ]


def lived(folder: Path, *, until_ms: int, lost: float = 0.0, seed: int = 0) -> tuple[World, Server, Stats]:
    """The world after a crowd of 20 devices has lived in it."""
    world = World()
    crowd_settings = settings(world, folder, 20, seed=seed)
    link = Link(world.log, [setting.identity.device for setting in crowd_settings])
    crowd, server, now_ms = Crowd(link, crowd_settings, now_ms=0, down_ms=1_000), Server(world, lost=lost), 0
    while now_ms < until_ms:
        next_ms = crowd.step(now_ms)
        server.step()
        now_ms = min(max(now_ms + 1, next_ms), now_ms + 50)
    return world, server, crowd.stats()


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

    plain = settings(world, tmp_path, count, habits=Habits(drop_probability=0, presence=1.0))
    link = Link(world.log, [f"sim{index}" for index in range(count)])
    crowd = Crowd(link, [replace(one, train=slow, clock_ms=lambda: clock[0]) for one in plain], now_ms=0)
    server = Server(world)
    while len(server.outcomes) < 3 * count:
        clock[0] += 1_000
        crowd.step(clock[0])
        crowd.step(clock[0])  # before anybody can have answered
        server.step()
    assert [*server.outcomes.values()] == [1] * len(server.outcomes)


def test_one_broken_device_does_not_stop_the_others(tmp_path: Path) -> None:
    """Guarantee: a device whose training raises is counted and named, the others go on."""
    world = World()

    def broken(*_: object, **__: object) -> np.ndarray:
        raise ValueError("a tensor has the wrong shape")

    good, bad = settings(world, tmp_path, 2, habits=Habits(drop_probability=0, presence=1.0))
    crowd = Crowd(Link(world.log, ["sim0", "sim1"]), [good, replace(bad, train=broken)], now_ms=0)
    server = Server(world)
    for now_ms in range(0, 10_000, 50):
        crowd.step(now_ms)
        server.step()
    stats = crowd.stats()
    assert (stats.failed, stats.admitted > 2) == (1, True)
    assert stats.error == "sim1: a tensor has the wrong shape"


def test_without_a_broker_devices_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a log that is unavailable for a while costs time, and nothing else."""
    world = World()
    crowd_settings = settings(world, tmp_path, 5, habits=Habits(drop_probability=0, presence=1.0))
    crowd = Crowd(Link(world.log, [f"sim{i}" for i in range(5)]), crowd_settings, now_ms=0)
    server = Server(world)
    append = world.log.append

    def down(_: object) -> list[int]:
        raise LogUnavailable("no broker")

    for now_ms in range(0, 60_000, 50):
        is_down = 5_000 < now_ms < 15_000
        monkeypatch.setattr(world.log, "append", down if is_down else append)
        crowd.step(now_ms)
        if not is_down:
            server.step()
    stats = crowd.stats()
    assert stats.failed == 0
    assert stats.admitted > 50
    assert len(server.outcomes) - stats.admitted <= 5


def granted(world: World, folder: Path, count: int) -> Crowd:
    """Devices of which each has a lease, and an update to be stored in `bodies` after one more step."""
    ready = settings(world, folder, count, habits=Habits(training_ms=1, drop_probability=0, presence=1.0))
    crowd, server = Crowd(Link(world.log, [f"sim{i}" for i in range(count)]), ready, now_ms=0), Server(world)
    crowd.step(0)
    server.step()
    crowd.step(1)
    return crowd


def test_bodies_are_stored_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: what many devices have to store goes out in one append, before all records that name it."""
    world = large()
    crowd, append, appended = granted(world, tmp_path, 5), world.log.append, list[list[str]]()
    monkeypatch.setattr(world.log, "append", lambda d: (appended.append([one.topic for one in d]), append(d))[1])
    crowd.step(100)
    assert appended == [["bodies"] * 5, ["updates"] * 5]
    assert all(world.seen(update).any() for update in world.submitted())


def test_much_does_not_wait_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: bodies are held back only up to a bound in bytes, however many devices have one."""
    world = large()
    crowd = granted(world, tmp_path, 5)
    monkeypatch.setattr(link_module, "LADEN_BYTES", 1)
    append, appended = world.log.append, list[list[str]]()
    monkeypatch.setattr(world.log, "append", lambda d: (appended.append([one.topic for one in d]), append(d))[1])
    crowd.step(100)
    assert appended == [*[["bodies"]] * 5, ["updates"] * 5]


def test_a_body_that_was_not_stored_is_stored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: when no broker takes the bodies nothing is submitted, and each is stored a little later."""
    world = large()
    crowd = granted(world, tmp_path, 3)

    def down(_: object) -> list[int]:
        raise LogUnavailable("no broker")

    with monkeypatch.context() as away:
        away.setattr(world.log, "append", down)
        crowd.step(100)
    assert world.submitted() == []
    for now_ms in range(100, 10_000, 50):
        crowd.step(now_ms)
    assert len({update.body.sha256 for update in world.submitted()}) == 3


def test_a_device_that_fails_with_its_body_stays_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: who failed for good is counted once, and never at work again, wherever it failed."""
    world = large()
    crowd = granted(world, tmp_path, 2)
    address = Outbox.address

    def full(outbox: Outbox, update: str, body: BodyRef) -> None:
        monkeypatch.setattr(Outbox, "address", address)
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(Outbox, "address", full)
    for now_ms in range(100, 10_000, 50):
        crowd.step(now_ms)
    assert (crowd.stats().failed, crowd.stats().away) == (1, 0)
    assert len({update.body.sha256 for update in world.submitted()}) == 1


def test_a_device_that_dies_before_its_body_is_stored_stays_down(tmp_path: Path) -> None:
    """Guarantee: a body that outlives its device is submitted by the device's next life, not while it is down."""
    world = large()
    crowd = granted(world, tmp_path, 2)
    wake, dead = Device.wake, "sim0"

    def fatal(device: Device, now_ms: int) -> int:
        next_ms = wake(device, now_ms)
        if device.setting.identity.device == dead:
            raise Died("right after its body was handed over")
        return next_ms

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Device, "wake", fatal)
        crowd.step(100)
    assert len(world.submitted()) == 1
    crowd.step(200)
    assert len(world.submitted()) == 1
    for now_ms in range(200, 10_000, 50):
        crowd.step(now_ms)
    assert len({update.body.sha256 for update in world.submitted()}) == 2


def test_answers_that_are_gone_take_no_others_along() -> None:
    """Guarantee: where a partition's answers were deleted a process goes on at its end, and loses none of another's."""
    world, home = World(), partition_of("sim0")
    names = ["sim0", next(f"sim{n}" for n in range(1, 99) if partition_of(f"sim{n}") != home)]
    link = Link(world.log, names)

    def say(*devices: str) -> None:
        for name in devices:
            world.say(Declined(device=name, task=TASK, reason="closed", retry_after_ms=10), name)

    say(*names, *names, *names)
    world.log.delete_records(TopicPartition(ANSWERS.name, home), 2)
    assert [answer.device for answer in link.answers(0)] == [names[1]] * 3
    say(*names)
    assert sorted(answer.device for answer in link.answers(0)) == sorted(names)


def test_closed_devices_are_counted(tmp_path: Path) -> None:
    """Guarantee: a crowd tells how many of its devices were told that the task is over."""
    world = World()
    crowd = Crowd(Link(world.log, ["sim0"]), settings(world, tmp_path, 1, habits=Habits(presence=1.0)), now_ms=0)
    crowd.step(0)
    world.say(Declined(device="sim0", task=TASK, reason="closed", retry_after_ms=10), "sim0")
    crowd.step(1)
    assert crowd.stats().closed == 1


def test_a_life_keeps_to_its_habits() -> None:
    """Guarantee: presence, drop-out and speed are the fleet's habits, drawn from the seed; devices differ."""
    habits = Habits(training_ms=400, drop_probability=0.25, day_ms=10_000, presence=0.6)
    lives = [Life(habits, device=f"sim{index}", seed=7) for index in range(300)]
    here = [life.away_until_ms(now) <= now for life in lives for now in range(0, 100_000, 3_331)]
    assert 0.55 < np.mean(here) < 0.65
    times = [life.training_ms("a" * 32, 7) for life in lives]
    assert 300 < np.median(times) < 520
    assert max(times) > 3 * min(times)
    deaths = 0
    for life in lives:
        try:
            for step in ("granted", "kept", "sent"):
                life.passed(step)
        except Died:
            deaths += 1
    assert 50 < deaths < 100
    conditions = [life.conditions(12_345) for life in lives]
    assert {condition.charging for condition in conditions} == {True, False}
    assert all(5 <= condition.battery_percent <= 100 for condition in conditions)


def test_a_device_comes_back_when_its_day_begins() -> None:
    """Guarantee: an absent device is away exactly until the time that it names."""
    life = Life(Habits(day_ms=10_000, presence=0.5), device="sim0", seed=0)
    for now in range(0, 40_000, 97):
        until = life.away_until_ms(now)
        if until > now:
            assert until - now <= 5_001
            assert life.away_until_ms(until) <= until


def test_one_device_in_the_foreground(tmp_path: Path) -> None:
    """Guarantee: `run_device` takes its own data and identity from its folder, and ends when it is told to."""
    world = World()
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 64)), y=[0, 1, 2])
    steps = 0

    def is_done(stats: Stats) -> bool:
        nonlocal steps
        steps += 1
        return stats.checked_in > 0

    stats = run_device(world.log, DeviceOptions(task=TASK, folder=tmp_path), is_done=is_done)
    assert stats.checked_in == 1
    [checkin] = world.checkins()
    assert checkin.samples == 3
    assert checkin.device.startswith("device-")


def test_a_broken_device_in_the_foreground_says_so(tmp_path: Path) -> None:
    """Guarantee: what stops a real device is told, not hidden in a count."""
    world = World()
    np.savez(tmp_path / "data.npz", x=np.zeros((3, 64)), y=[0, 1, 2])
    (tmp_path / f"{TASK}.outbox").write_bytes(b"junk")
    with pytest.raises(OutboxError, match="outbox"):
        run_device(world.log, DeviceOptions(task=TASK, folder=tmp_path), is_done=lambda _: False)
