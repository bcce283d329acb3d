"""Writes journals by hand, as an actor would: claims, and batches that follow the chain."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from schemas.canonical import encode
from schemas.events import JournalEvent, TaskCreated, TensorSpec
from schemas.identifiers import BodyRef
from schemas.journal import Batch, Chain, Decision, Position, WriterClaimed
from schemas.policy import Policy
from schemas.topics import CATALOGUE, partition_of
from streams.log import Draft, EventLog
from streams.memory import MemoryLog

TASK = "digits"
PLACE = partition_of(TASK)
BODY = BodyRef(topic="models", partition=PLACE, offsets=(0,), sha256=bytes(32), size=10, codec="float32")


def memory_log() -> MemoryLog:
    """An empty log with every topic, whose time is a counter."""
    times = iter(range(1_000, 10_000_000, 1_000))
    return MemoryLog(CATALOGUE, clock=lambda: next(times))


def policy(**sections: Any) -> Policy:
    """K = 3 over 10 devices; each section given replaces the one here."""
    told = {
        "model": "client_agent.learning.models:softmax_regression",
        "selection": {"devices_expected": 10, "concurrency": 10},
        "aggregation": {"updates_per_round": 3},
        "stop": {"versions_max": 5},
        **sections,
    }
    return msgspec.convert(told, Policy)


def created(task: str = TASK, **changes: Any) -> TaskCreated:
    """A task of two tensors and six parameters."""
    rules = changes.pop("policy", policy())
    told: dict[str, Any] = {
        "task": task,
        "policy": rules,
        "policy_sha256": hashlib.sha256(encode(rules)).digest(),
        "tensors": (TensorSpec(name="weight", shape=(2, 2)), TensorSpec(name="bias", shape=(2,))),
        "parameters": 6,
        "weights": rules.weights(),
        "model": BODY,
        "parent": None,
        "participations_before": 0,
    }
    return TaskCreated(**{**told, **changes})


def append(log: EventLog, topic: str, value: bytes | Any, *, partition: int = PLACE, key: bytes | None = None) -> int:
    """One plain record; a fact is encoded."""
    data = value if isinstance(value, bytes) else encode(value)
    return log.append([Draft(topic=topic, partition=partition, value=data, key=key)])[0]


class Journal:
    """The only writer of one journal partition; keeps its chain by reading its own records."""

    def __init__(self, log: EventLog, topic: str, partition: int = PLACE) -> None:
        self._log, self._topic, self._partition = log, topic, partition
        self.chain = Chain()
        self.claim()

    def claim(self) -> int:
        """Take the journal over."""
        self._writer = self._log.writer(f"{self._topic}.{self._partition}")
        return self.commit(encode(WriterClaimed(actor="test", partition=self._partition, nonce=bytes(32))))

    def batch(self, *events: JournalEvent, time_ms: int = 1_000, claim: int | None = None) -> int:
        """One decision with these events; its offset. `claim` other than the one in force makes it a zombie's."""
        at = self.chain.at
        decision = Decision(topic="updates", offset=0, time_ms=time_ms, events=events)
        return self.commit(
            encode(
                Batch(
                    seq=at.seq + 1,
                    claim=at.claim if claim is None else claim,
                    prev=at.head,
                    time_ms=time_ms,
                    position=Position(offsets={"updates": 1}),
                    decisions=(decision,) if events else (),
                )
            )
        )

    def commit(self, data: bytes, *, follow: bool = True) -> int:
        """Write these bytes in a transaction; their offset."""
        offset = self._writer.commit([Draft(topic=self._topic, partition=self._partition, value=data)])[0]
        if follow:
            self.chain.follow(offset, data)
        return offset
