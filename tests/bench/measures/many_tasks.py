"""Many small tasks over all partitions, timed: three workers an actor as users start them, and under load a fourth."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from schemas.policy import Policy
from schemas.topics import CHECKINS, ROUNDS, SELECTIONS, UPDATES
from streams.journals import read_decisions
from streams.log import EventLog, TopicPartition, scan
from tests.bench import machine
from tests.bench.row import Bench
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import Stage, Worker, staged

# No task is private: the budget's workers would take cores from the actors that are measured.
ACTORS = {"selector": (SELECTIONS.name, CHECKINS.name), "aggregator": (ROUNDS.name, UPDATES.name)}
WORKERS = 3
PARAMETERS = 10
DEVICES = 2  # a task; both fill a round
THREADS = 4
PATIENCE_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Every device trains once in `period_s`; the newcomers start once all tasks have so many versions."""

    tasks: int
    partitions: int
    period_s: float
    versions: int
    goes_on_s: float

    @property
    def names(self) -> list[str]:
        """Of its tasks: their hashes spread them over the partitions."""
        return [f"task-{number}" for number in range(self.tasks)]

    @property
    def rules(self) -> Policy:
        """Leases that outlive a partition's move, and inputs for as long as the load lasts."""
        return policy(
            selection={"devices_expected": DEVICES, "concurrency": DEVICES, "retry_after_s": 2.0, "lease_s": 120.0},
            aggregation={"updates_per_round": DEVICES},
            compression={"codec": "int8"},
            stop={"versions_max": 1_000, "idle_s": 3_600.0},
        )

    @property
    def habits(self) -> Habits:
        """Devices that ask as often as the period says, and never twice without need."""
        # Many devices in one thread that each wait for their own record would measure themselves.
        return Habits(inline=1.0, rest_s=self.period_s, patience_s=10.0, joins_within_s=self.period_s, at_once=True)


class Decided(NamedTuple):
    """An input that has its decision, and how long it waited: append of the journal's record minus its own."""

    actor: str
    partition: int
    append_ms: int
    waited_ms: int


@dataclass(slots=True)
class Found:
    """What the log tells; `begin_ms` is when every task had a version of its own, `join_ms` when newcomers started."""

    created_s: float = 0.0
    begin_ms: float = 0.0
    join_ms: float = 0.0
    end_ms: float = 0.0
    moved: dict[str, list[int]] = field(default_factory=dict)  # to the newcomer, by actor
    opened_anew: int = 0  # by all workers since then
    peak_mb: float = 0.0
    decided: list[Decided] = field(default_factory=list)
    commits_ms: dict[tuple[str, int], list[int]] = field(default_factory=dict)

    def still_s(self, begin_ms: float, end_ms: float) -> float:
        """The longest time without a commit, in the partitions that moved and among commits in this time."""
        places = [(actor, partition) for actor, partitions in self.moved.items() for partition in partitions]
        within = [[ms for ms in self.commits_ms[at] if begin_ms <= ms < end_ms] for at in places]
        return max((after - before for times in within for before, after in pairwise(times)), default=0) / 1000


def run(bench: Bench, load: Load) -> Found:
    """Create, load, join, rest; every law holds on every partition, or this raises AssertionError."""
    name = f"tasks-{uuid.uuid4().hex[:8]}"
    folder = bench.folder / name
    folder.mkdir()
    found = Found()
    with staged(bench.kafka(name), folder, partitions=load.partitions) as stage:
        stage.start(*[*ACTORS] * WORKERS)
        stage.until(lambda: all(worker.openings for worker in stage.workers), "partitions", timeout_s=PATIENCE_S)
        _created(stage, load, found=found)
        with contextlib.ExitStack() as stack:
            fleets = [stack.enter_context(fleet) for fleet in _fleets(stage, load)]
            _loaded(stage, load, found=found)
            for fleet in fleets:
                fleet.rest(PATIENCE_S)
        found.peak_mb = max(machine.peak_mb(child.pid) for worker in stage.workers if (child := worker.child()))
        stage.until_lawful(*range(stage.log.partitions), timeout_s=PATIENCE_S)
        read(stage.log, found)
    return found


def _created(stage: Stage, load: Load, *, found: Found) -> None:
    began_s = time.monotonic()
    for name in load.names:
        stage.create_task(name, load.rules, parameters=PARAMETERS)
    _until(stage, load, 0)
    found.created_s = time.monotonic() - began_s


def _until(stage: Stage, load: Load, version: int) -> None:
    """Wait until every task has this version."""
    names = load.names
    stage.until(lambda: stage.version(*names) >= version, f"version {version} everywhere", timeout_s=PATIENCE_S)


def _fleets(stage: Stage, load: Load) -> Iterator[Fleet]:
    """The devices, in a few threads."""
    for number in range(THREADS):
        first, *others = load.names[number::THREADS]
        yield Fleet(
            *(stage.kafka, first, load.rules, PARAMETERS, DEVICES),
            seed=number,
            habits=load.habits,
            others=tuple(others),
        )


def _loaded(stage: Stage, load: Load, *, found: Found) -> None:
    """The steady load, and how another worker of each actor takes over some of it."""
    _until(stage, load, 1)
    found.begin_ms = 1000 * time.time()
    _until(stage, load, load.versions)
    found.join_ms = 1000 * time.time()
    opened = _openings(stage.workers)
    newcomers = stage.start(*ACTORS)
    stage.until(lambda: all(worker.openings for worker in newcomers), "partitions", timeout_s=PATIENCE_S)
    time.sleep(load.goes_on_s)
    found.end_ms = 1000 * time.time()
    found.moved = {worker.actor: sorted({told["partition"] for told in worker.openings}) for worker in newcomers}
    found.opened_anew = _openings(stage.workers) - opened


def _openings(workers: Sequence[Worker]) -> int:
    return sum(len(worker.openings) for worker in workers)


def read(log: EventLog, found: Found) -> None:
    """Fill in what the journals tell: inputs that have a decision of their own, and every commit.

    An input that decides nothing has none, and of declines that were counted together the last is counted here.
    """
    for actor, (journal, topic) in ACTORS.items():
        for partition in range(log.partitions):
            appended = {record.offset: record.time_ms for record in scan(log, TopicPartition(topic, partition))}
            times: dict[int, int] = {}
            for record, decision, _ in read_decisions(log, TopicPartition(journal, partition), trust=None):
                times[record.offset] = record.time_ms
                if decision.topic == topic:
                    append_ms = appended[decision.offset]
                    found.decided.append(Decided(actor, partition, append_ms, record.time_ms - append_ms))
            found.commits_ms[actor, partition] = list(times.values())
