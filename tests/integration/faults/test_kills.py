"""Deaths at random moments: workers, supervisors, processes that stand still, group offsets, and the broker itself."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from kafka import KafkaAdminClient
from kafka import TopicPartition as BrokerPartition
from kafka.structs import OffsetAndMetadata

from actors.hosts.faust_app import SESSION_TIMEOUT_S
from actors.wiring import ROLES
from schemas.policy import Policy
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition
from tests.places import PARTITIONS, home_of
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, Stage, Worker, resume, say, staged

TASK = "task"
# In the other half of the partitions, so that of two workers each has something to lose.
OTHER = next(f"other-{n}" for n in range(100) if (home_of(f"other-{n}") < 4) != (home_of(TASK) < 4))
TASKS = (TASK, OTHER)
PARTITION = home_of(TASK)
SEED = int(os.environ.get("KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
SECONDS = float(os.environ.get("KILLS_SECONDS", "15"))
COMMAND = f"KILLS_SEED={SEED} KILLS_SECONDS={SECONDS:g} pytest tests/integration/faults/test_kills.py"
UNRELIABLE = Habits(again=0.2, gives_up=0.06, says_so=True, rest_s=0.5)


def rules() -> Policy:
    """A private task with short leases, so that those that were given up come back."""
    return policy(
        selection={"devices_expected": 10, "concurrency": 8, "retry_after_s": 0.3, "lease_s": 6.0},
        compression={"codec": "int8"},
        privacy={"noise_multiplier": 100.0, "rho_max": 1.0},
        stop={"versions_max": 5_000},
    )


def fleet(stage: Stage, task: str = TASK) -> Fleet:
    """Ten devices that ask twice, send twice, and give up."""
    return Fleet(stage.kafka, task, rules(), 40, 10, seed=SEED, habits=UNRELIABLE)


class Reaper:
    """Kills, stops and resumes workers by chance; `heal` makes everything whole again."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.random = stage, random.Random(seed)
        self.done: Counter[str] = Counter()
        self._still: list[tuple[float, psutil.Process]] = []

    def strike(self) -> None:
        """One fault, on one worker that has a living child."""
        self._resume(time.monotonic())
        alive = [(worker, child) for worker in self.stage.workers if (child := worker.child()) and worker.is_supervised]
        if not alive:
            return
        worker, child = self.random.choice(alive)
        match self.random.choices(("child", "supervisor", "stop"), (4, 2, 5))[0]:
            case "child":
                self._kill(child.pid, "children killed")
            case "supervisor":
                self._kill(worker.supervisor.pid, "supervisors killed")
                worker.supervisor.wait()
                self.stage.start(worker.actor)
            case "stop" if len(self._still) < 2 and child.pid not in {process.pid for _, process in self._still}:
                child.send_signal(signal.SIGSTOP)
                self.done["children stopped"] += 1
                wakes_s = time.monotonic() + SESSION_TIMEOUT_S + self.random.uniform(1.0, 6.0)
                self._still.append((wakes_s, child))

    def heal(self) -> None:
        """Whatever stands still goes on; every actor has its two workers."""
        self._resume(float("inf"))
        for actor in ACTORS:
            there = [worker for worker in self.stage.workers if worker.actor == actor and worker.is_supervised]
            self.stage.start(*[actor] * (2 - len(there)))

    def _kill(self, pid: int, what: str) -> None:
        os.kill(pid, signal.SIGKILL)
        self.done[what] += 1

    def _resume(self, now_s: float) -> None:
        for wakes_s, process in self._still:
            if wakes_s <= now_s:
                resume(process)
        self._still = [(wakes_s, process) for wakes_s, process in self._still if wakes_s > now_s]


@pytest.mark.timeout(420)
def test_nothing_is_lost_or_doubled_by_deaths_at_random_moments(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Laws 2 to 6 under kill -9 of workers and supervisors and SIGSTOP past the session timeout; then progress."""
    say(f"repeat with: {COMMAND}")
    with staged(kafka_settings, tmp_path) as stage:
        for task in TASKS:
            stage.create_task(task, rules(), parameters=40)
        stage.start(*ACTORS, *ACTORS)
        reaper = Reaper(stage, SEED)
        with fleet(stage, TASK) as devices, fleet(stage, OTHER) as others:
            for task in TASKS:
                stage.until_version(task, 2)
            end_s = time.monotonic() + SECONDS
            while time.monotonic() < end_s:
                reaper.strike()
                _watch(stage, reaper.random.uniform(1.0, 5.0))
            reaper.heal()
            healed_s, before = time.monotonic(), {task: stage.version(task) for task in TASKS}
            for task, version in before.items():
                stage.until_version(task, version + 2, timeout_s=120)
            say(f"recovered in {time.monotonic() - healed_s:.1f} s, at versions {before}; {dict(reaper.done)}")
            devices.rest(90)
            others.rest(90)
        partitions = [home_of(task) for task in TASKS]
        stage.until_lawful(*partitions)
        assert reaper.done.total() > 0
        say(stage.report(*partitions), "starts", sum(worker.starts for worker in stage.workers))
        verified = stage.fedlog("verify")
        assert verified.exit_code == 0, verified.stderr


def _watch(stage: Stage, seconds: float) -> None:
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        stage.version(TASK)


@pytest.mark.timeout(300)
def test_group_offsets_are_only_a_hint(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Law 2: with the group at the earliest, the latest or a random offset every input has exactly one outcome."""
    say(f"repeat with: {COMMAND}")
    chance = random.Random(SEED)
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, rules(), parameters=40)
        with fleet(stage) as devices:
            workers = _round(stage, [], version=2)
            for number, kind in enumerate(("latest", "earliest or random"), start=1):
                for worker in workers:
                    worker.end()
                for worker in workers:
                    worker.ended()
                time.sleep(1.5)  # devices go on, so that the latest offset lies past what nobody has decided
                _reset(stage, kind, chance)
                workers = _round(stage, workers, version=stage.version(TASK) + 2 * number)
            devices.rest()
        stage.until_lawful(PARTITION)
        say(stage.report(PARTITION))


def _round(stage: Stage, old: list[Worker], *, version: int) -> list[Worker]:
    assert not any(worker.is_supervised for worker in old)
    started = stage.start(*ACTORS)
    stage.until_version(TASK, version)
    return started


def _reset(stage: Stage, kind: str, chance: random.Random) -> None:
    """Set every group's offsets once the group is empty, which static members leave by their session timeout."""
    admin = KafkaAdminClient(**stage.kafka.client())
    try:
        for name in ACTORS:
            group = stage.kafka.add_prefix(name)
            stage.until(lambda g=group: _is_empty(admin, g), f"{group} is empty", timeout_s=60)
            wanted = {
                BrokerPartition(stage.kafka.add_prefix(topic), partition): OffsetAndMetadata(
                    _offset(stage, TopicPartition(topic, partition), chance.choice(kind.split(" or ")), chance), "", -1
                )
                for topic in ROLES[name].inputs
                for partition in range(PARTITIONS)
            }
            results = admin.alter_group_offsets(group, wanted)
            assert {error.errno for error in results.values()} == {0}, results
    finally:
        admin.close()


def _offset(stage: Stage, at: TopicPartition, kind: str, chance: random.Random) -> int:
    bounds = stage.log.bounds(at)
    return {"earliest": bounds.beginning, "latest": bounds.end}.get(kind, chance.randint(bounds.beginning, bounds.end))


def _is_empty(admin: KafkaAdminClient, group: str) -> bool:
    found = admin.describe_groups([group])[group]
    return str(found["group_state"]) in ("Empty", "Dead")
