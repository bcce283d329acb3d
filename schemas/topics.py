"""The catalogue of topics: one row a topic, and the rule that says in which partition a task lives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

# How many partitions topics get where nobody says a number. Only creation knows it: a running cluster is asked.
PARTITIONS_DEFAULT = 8

# A batch of records that any writer of ours sends is shorter: half a megabyte of body or journal, and its header.
BATCH_BYTES_MAX = 620_000
# A transaction holds back whoever reads its partitions, so that nobody may leave one open for long.
TRANSACTION_TIMEOUT_MAX_MS = 15_000

_HOUR_MS = 3_600_000
_KEEP_FOREVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}


def _keep_hours(hours: int) -> dict[str, str]:
    return {"retention.ms": str(hours * _HOUR_MS), "cleanup.policy": "delete"}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: who alone writes it, and for how long its records are kept.

    A journal is what exactly one actor writes along a chain; `actors.wiring` has a row for each, and `writer` is its
    role's name, which its certificate has to bear. `clock` marks the time for an actor whose inputs may be silent.
    """

    name: str
    writer: str
    retention: dict[str, str]
    is_journal: bool = False

    @property
    def config(self) -> dict[str, str]:
        """The broker's settings; time is append time, because deadlines compare it (law 10).

        A broker opens what comes compressed and refuses a batch that is then too long, so that no reader has to.
        """
        return {
            **self.retention,
            "message.timestamp.type": "LogAppendTime",
            "compression.type": "uncompressed",
            "max.message.bytes": str(BATCH_BYTES_MAX),
        }


TASKS = Topic("tasks", "operator", _KEEP_FOREVER)
CHECKINS = Topic("checkins", "devices, selector (ticks)", _keep_hours(14 * 24))
SELECTIONS = Topic("selections", "selector", _KEEP_FOREVER, is_journal=True)
# A device that missed its answer asks again, so an hour is enough.
ANSWERS = Topic("answers", "selector, aggregator, registrar", _keep_hours(1))
BODIES = Topic("bodies", "devices, helpers", _KEEP_FOREVER)
SHARDS = Topic("shards", "devices, shard workers", _KEEP_FOREVER)
# Results that anyone can compute again: kept for as long as a round may wait for them.
PARTIALS = Topic("partials", "shard workers", _keep_hours(24))
UPDATES = Topic("updates", "devices, aggregator (ticks)", _keep_hours(14 * 24))
ROUNDS = Topic("rounds", "aggregator", _KEEP_FOREVER, is_journal=True)
LEDGER = Topic("ledger", "privacy", _KEEP_FOREVER, is_journal=True)
# Requests of devices and orders of the operator; what counts of them stands in the registrar's journal.
ENROLMENTS = Topic("enrolments", "devices, operator", _keep_hours(14 * 24))
REGISTRY = Topic("registry", "registrar", _KEEP_FOREVER, is_journal=True)
# What helpers of masked tasks say, each record signed by one of them; their journals are files of their own.
MASKS = Topic("masks", "helpers", _KEEP_FOREVER)
ROLLOUTS = Topic("rollouts", "rollout", _KEEP_FOREVER, is_journal=True)
CLOCK = Topic("clock", "rollout (ticks)", _keep_hours(14 * 24))
EVALUATIONS = Topic("evaluations", "evaluator", _KEEP_FOREVER)
# Compacted, so that a tombstone deletes one model and leaves the others.
MODELS = Topic("models", "operator, aggregator", {"cleanup.policy": "compact"})
PUBLISHED = Topic("published", "aggregator, rollout", _KEEP_FOREVER)
# The broker compacts closed segments only, and its own default closes one at a gigabyte.
SNAPSHOTS = Topic("snapshots", "actors", {"cleanup.policy": "compact", "segment.bytes": str(64 * 2**20)})

CATALOGUE = (
    TASKS,
    CHECKINS,
    SELECTIONS,
    ANSWERS,
    BODIES,
    SHARDS,
    PARTIALS,
    UPDATES,
    ROUNDS,
    LEDGER,
    ENROLMENTS,
    REGISTRY,
    MASKS,
    ROLLOUTS,
    CLOCK,
    EVALUATIONS,
    MODELS,
    PUBLISHED,
    SNAPSHOTS,
)
JOURNALS = tuple(topic for topic in CATALOGUE if topic.is_journal)


def partition_of(task: str, partitions: int) -> int:
    """The partition of a task in every topic of a cluster with this many partitions.

    It is that of the task's population, so that parents, successors and whatever else its tasks share lie together.
    """
    return _choose(population_of(task), partitions)


def population_of(task: str) -> str:
    """What stands before the dot of `population.task`; a bare name is its own population."""
    return task.partition(".")[0]


def answer_partition(device: str, partitions: int) -> int:
    """The partition of `answers` in which a device listens."""
    return _choose(device, partitions)


def body_place(task: str, device: str, *, shards: int, partitions: int) -> tuple[str, int]:
    """Topic and partition of a device's larger bodies: those of a task with shards are spread over as many partitions.

    They have a topic of their own, because whatever deletes a body has to know every round that may still need it.
    """
    if shards == 1:
        return BODIES.name, partition_of(task, partitions)
    shard = _choose(f"{task}/{device}", shards)
    return SHARDS.name, (partition_of(task, partitions) + shard) % partitions


def _choose(name: str, count: int) -> int:
    """One of `count` for a name.

    A hash of our own, because clients differ in theirs and the choice can never change.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % count
