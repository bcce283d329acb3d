"""The catalogue of topics: one row a topic, and the rule that says in which partition a task lives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

PARTITIONS = 8

_HOUR_MS = 3_600_000
_FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}


def _kept_for(hours: int) -> dict[str, str]:
    return {"retention.ms": str(hours * _HOUR_MS), "cleanup.policy": "delete"}


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: who alone writes it, and for how long its records are kept.

    A journal is what exactly one actor writes along a chain; `actors.wiring` has a row for each.
    """

    name: str
    writer: str
    retention: dict[str, str]
    partitions: int = PARTITIONS
    is_journal: bool = False

    @property
    def config(self) -> dict[str, str]:
        """The broker's settings; time is append time, because deadlines compare it (law 10)."""
        return {**self.retention, "message.timestamp.type": "LogAppendTime"}


TASKS = Topic("tasks", "operator", _FOR_EVER)
CHECKINS = Topic("checkins", "devices, selector (ticks)", _kept_for(14 * 24))
SELECTIONS = Topic("selections", "selector", _FOR_EVER, is_journal=True)
ANSWERS = Topic("answers", "selector, aggregator", _kept_for(1))
BODIES = Topic("bodies", "devices", _FOR_EVER)
SHARDS = Topic("shards", "devices, shard workers", _FOR_EVER)
PARTIALS = Topic("partials", "shard workers", _kept_for(24))
UPDATES = Topic("updates", "devices, aggregator (ticks)", _kept_for(14 * 24))
ROUNDS = Topic("rounds", "aggregator", _FOR_EVER, is_journal=True)
LEDGER = Topic("ledger", "privacy budget", _FOR_EVER, is_journal=True)
EVALUATIONS = Topic("evaluations", "evaluator", _FOR_EVER)
MODELS = Topic("models", "operator, aggregator", {"cleanup.policy": "compact"})
PUBLISHED = Topic("published", "aggregator", _FOR_EVER)
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
    EVALUATIONS,
    MODELS,
    PUBLISHED,
    SNAPSHOTS,
)
JOURNALS = tuple(topic for topic in CATALOGUE if topic.is_journal)


def partition_of(name: str) -> int:
    """The partition of a task in every topic, and of a device in `answers`.

    A hash of our own, because clients differ in theirs and the choice can never change.
    """
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) % PARTITIONS


def body_place(task: str, device: str, *, shards: int) -> tuple[str, int]:
    """Topic and partition of a device's larger bodies: those of a task with shards are spread over as many partitions.

    A topic of their own, because who deletes a body has to know every round that may still need it.
    """
    if shards == 1:
        return BODIES.name, partition_of(task)
    shard = int.from_bytes(hashlib.sha256(f"{task}/{device}".encode()).digest()[:8]) % shards
    return SHARDS.name, (partition_of(task) + shard) % PARTITIONS
