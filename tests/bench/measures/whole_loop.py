"""The whole loop, timed: workers as a user starts them, a fleet of devices, and what the journal says of both."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import psutil

from actors.hosts.helper.store import create_store
from client_agent.links.kafka import open_link
from client_agent.running.fleet import Fleet, FleetOptions
from client_agent.running.profiles import SimulationOptions
from ops.operator import models as weights
from ops.operator import tasks
from schemas.events import ModelPublished, RoundProposed, UpdateAdmitted
from schemas.identifiers import BodyRef
from schemas.policy import Policy, check_policy
from schemas.tensors import Floats
from schemas.topics import ROUNDS, UPDATES
from streams.journals import read_decisions
from streams.kafka.log import KafkaLog
from streams.log import EventLog, TopicPartition, scan
from tests.bench.peers.nothing import LEARNER
from tests.bench.row import Bench
from tests.places import home_of
from tests.worlds.builders import ALLOWED, policy
from tests.worlds.masking.helping import helping
from tests.worlds.stage import ACTORS, Stage, staged

TASK = "bench"
PARTITION = home_of(TASK)
WARM_VERSIONS = 2  # releases before the clock starts: every device has trained once, every cache is full
PATIENCE_S = 300.0


def tireless(training_ms: float = 1.0) -> SimulationOptions:
    """Devices that are always there, never die, and take this long for a training."""
    return SimulationOptions(
        training_ms=training_ms, speed_sigma=0.0, drop_probability=0.0, presence=1.0, charging_share=1.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """What runs; half of the devices fill a round, so that the others train meanwhile."""

    parameters: int
    codec: str
    devices: int
    updates_per_round: int
    simulation: SimulationOptions = field(default_factory=tireless)
    private: bool = False
    processes: int = 2
    model: str = ""  # empty: nothing is trained
    helpers: int = 0  # above zero: the tier masked
    sections: Mapping[str, Any] = field(default_factory=dict)  # of the policy, beside what stands below
    keeps_models: bool = False

    @property
    def rules(self) -> Policy:
        """Its policy: plain FedBuff, with a privacy budget that nothing here can exhaust when it is private."""
        plain = {
            "selection": {
                "devices_expected": self.devices,
                "concurrency": self.devices,
                "retry_after_s": 0.05,
                "lease_s": 120.0,
            },
            "aggregation": {"updates_per_round": self.updates_per_round},
            "clipping": {"norm": 8.0},
            "compression": {"codec": self.codec, "error_feedback": self.codec != "float32"},
            "stop": {"versions_max": 100_000, "idle_s": 600.0},
        }
        private = {"privacy": {"noise_multiplier": 4.0, "rho_max": 10_000.0}} if self.private else {}
        nothing = {"learner": LEARNER, "learner_arguments": {"parameters": self.parameters}} if not self.model else {}
        return policy(**plain, **private, **self.sections, **nothing, model=self.model)

    @property
    def actors(self) -> tuple[str, ...]:
        """Who has to run for it."""
        return ("selector", "aggregator", *(["privacy"] if self.private else []))


@dataclass(slots=True)
class Found:
    """What the journal tells of a run, between `begin_ms` and `end_ms` where times are concerned."""

    seconds: float
    cpu_of: dict[str, float]  # seconds of each part: the broker, an actor, the fleet
    admitted: int = 0
    bytes: int = 0
    models: list[tuple[float, Floats]] = field(default_factory=list)  # seconds since the warm version, and the model
    release_ms: list[int] = field(default_factory=list)

    @property
    def updates_per_s(self) -> float:
        return self.admitted / self.seconds

    @property
    def cpu_s(self) -> float:
        return sum(self.cpu_of.values())


def run(bench: Bench, loop: Loop, *, seconds: float = 0.0, versions: int = 0) -> Found:
    """Let it run until it is warm, then for so long, or for so many versions."""
    name = f"loop-{uuid.uuid4().hex[:8]}"
    folder = bench.folder / name
    folder.mkdir()
    with staged(bench.kafka(name), folder) as stage, ExitStack() as stack:
        stage.start(*loop.actors)
        if loop.helpers:
            loop = replace(loop, sections={**loop.sections, **_start_helpers(loop.helpers, stage, stack)})
        if loop.sections:
            tasks.create(stage.log, TASK, key=stage.key, policy=check_policy(loop.rules))
        else:
            stage.create_task(TASK, loop.rules, parameters=loop.parameters)
        stage.until_version(TASK, 0)
        options = FleetOptions(
            task=TASK,
            open_link=partial(open_link, partial(KafkaLog, stage.kafka), operator=stage.key.public_key),
            folder=folder / "fleet",
            devices=loop.devices,
            processes=loop.processes,
            allowed=ALLOWED.including(LEARNER, loop.model),
            simulation=loop.simulation,
        )
        with Fleet(options):
            found, window = _timed(stage, seconds=seconds, versions=versions)
        models = read(stage.log, found, window)
        if loop.keeps_models:
            warm_ms, _ = models[WARM_VERSIONS]
            found.models = [
                ((ms - warm_ms) / 1000, weights.read(stage.log, ref, parameters=loop.parameters))
                for ms, ref in models[WARM_VERSIONS:]
            ]
    return found


def _start_helpers(count: int, stage: Stage, stack: ExitStack) -> dict[str, Any]:
    """Helpers in processes of their own; what a policy has to say of them."""
    folders = [stage.folder / f"helper-{number}" for number in range(count)]
    named = tuple(create_store(folder / "state").hex() for folder in folders)
    for folder in folders:
        stack.enter_context(helping(stage, folder))
    return {"tier": "masked", "masked": {"helpers": named}}


def _timed(stage: Stage, *, seconds: float, versions: int) -> tuple[Found, tuple[float, float]]:
    """Wall clock and CPU time of every process, from when all is warm."""
    stage.until_version(TASK, WARM_VERSIONS, timeout_s=PATIENCE_S)
    began_s, before = time.time(), _count_cpu_s()
    if versions:
        stage.until_version(TASK, WARM_VERSIONS + versions, timeout_s=PATIENCE_S)
    else:
        time.sleep(seconds)
    ended_s = time.time()
    used = {part: cpu_s - before.get(part, 0.0) for part, cpu_s in _count_cpu_s().items()}
    return Found(seconds=ended_s - began_s, cpu_of=used), (1000 * began_s, 1000 * ended_s)


def _count_cpu_s() -> dict[str, float]:
    """CPU time of each part of what this process has started and that still lives."""
    found: defaultdict[str, float] = defaultdict(float)
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[_name_part(process.cmdline())] += times.user + times.system
    return found


def _name_part(command: list[str]) -> str:
    if "kafka.Kafka" in command:
        return "broker"
    if "helper" in command:
        return "helpers"
    # A worker and its supervisor both end in the actor's name.
    return command[-1] if command and command[-1] in ACTORS else "fleet"


def read(log: EventLog, found: Found, window: tuple[float, float]) -> list[tuple[int, BodyRef]]:
    """Fill in what the journal tells; append time and body of every model.

    A release counts from the last update that its round needed.
    """
    begin_ms, end_ms = window
    appended = {record.offset: record.time_ms for record in scan(log, TopicPartition(UPDATES.name, PARTITION))}
    needed_ms: dict[int | None, int] = {}
    models = []
    for record, decision, _ in read_decisions(log, TopicPartition(ROUNDS.name, PARTITION), trust=None):
        for event in decision.events:
            match event:
                case UpdateAdmitted() if begin_ms <= record.time_ms < end_ms:
                    found.admitted += 1
                    found.bytes += event.body.size
                case RoundProposed() if decision.topic == UPDATES.name:
                    needed_ms[event.round] = appended[decision.offset]
                case ModelPublished():
                    models.append((record.time_ms, event.model))
                    if event.round in needed_ms and begin_ms <= record.time_ms < end_ms:
                        found.release_ms.append(record.time_ms - needed_ms[event.round])
    return models
