"""Writes journals by hand, as an actor would: claims, and batches that follow the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from actors.keys import OperatorKey
from ops.operator import deployments
from schemas.canonical import encode
from schemas.events import JournalEvent, TaskCreated, TensorSpec
from schemas.journal import WRITERS, Chain, JournalRecord, Position, WriterClaimed, sign_record
from schemas.policy import Policy
from schemas.topics import CATALOGUE, EVALUATIONS, ROUNDS, TASKS
from streams.log import Draft, EventLog, TopicPartition
from streams.memory import MemoryLog
from tests.learners import PAIR_LEARNER
from tests.places import home_of
from tests.worlds.builders import (
    DEPLOYMENT,
    KEY,
    TASK,
    batch,
    body_ref,
    decision,
    role_key,
    scored,
    task_created,
    writer_claimed,
    written,
)
from tests.worlds.builders import policy as build_policy

PLACE = home_of(TASK)
BODY = body_ref("initial", "models", partition=PLACE, offsets=(0,), sha256=bytes(32), size=10)


def memory_log() -> MemoryLog:
    """An empty log with every topic, whose time is a counter."""
    times = iter(range(1_000, 10_000_000, 1_000))
    return MemoryLog(CATALOGUE, clock=lambda: next(times))


def policy(**sections: Any) -> Policy:
    """K = 3 over 10 devices; each section given replaces the one here."""
    plain = {
        "model": "",
        "learner": PAIR_LEARNER,
        "clipping": {"norm": 1.0},
        "compression": {"codec": "int8"},
        "stop": {"versions_max": 5},
    }
    return build_policy(**{**plain, **sections})


def created(task: str = TASK, **changes: Any) -> TaskCreated:
    """A task of two tensors and six parameters."""
    tensors = (TensorSpec(name="weight", shape=(2, 2)), TensorSpec(name="bias", shape=(2,)))
    plain: dict[str, Any] = {"task": task, "tensors": tensors, "parameters": 6, "model": BODY}
    return task_created(changes.pop("policy", policy()), **{**plain, **changes})


def write_key(path: Path, key: OperatorKey = KEY) -> None:
    """The operator's key file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(key.secret.hex() + "\n")


def append(log: EventLog, topic: str, value: bytes | Any, *, partition: int = PLACE, key: bytes | None = None) -> int:
    """One plain record; an event is signed as its writer does."""
    data = value if isinstance(value, bytes) else _sign(topic, value)
    return log.append([Draft(topic=topic, partition=partition, value=data, key=key)])[0]


def _sign(topic: str, event: Any) -> bytes:
    if topic == TASKS.name:
        return written(event)
    return scored(event) if topic == EVALUATIONS.name else encode(event)


def journalled(record: JournalRecord, topic: str = ROUNDS.name, partition: int = 0, **changes: Any) -> bytes:
    """A record as the writer of this journal puts it there: signed, a claim with its certificate.

    `changes` are of the writer's key.
    """
    signer = role_key(changes.pop("role", WRITERS[topic]), **changes).signer
    certificate = signer.certificate if isinstance(record, WriterClaimed) else b""
    return sign_record(encode(record), topic=topic, partition=partition, key=signer.key, certificate=certificate)


class Journal:
    """The only writer of one journal partition; keeps its chain by reading its own records."""

    def __init__(self, log: EventLog, topic: str, partition: int = PLACE) -> None:
        self._log, self._topic, self._partition = log, topic, partition
        self.chain = Chain(topic, partition)
        # A log that was founded has a name of its own, which the certificate of its writer bears.
        self._deployment = deployments.find(log, KEY.public_key) or DEPLOYMENT
        self.claim()

    def claim(self) -> int:
        """Take the journal over."""
        self._writer = self._log.writer(f"{self._topic}.{self._partition}")
        after = self._log.find_written_end(TopicPartition(self._topic, self._partition))
        return self.write(writer_claimed("test", self._partition, after=after))

    def batch(self, *events: JournalEvent, time_ms: int = 1_000, claim: int | None = None) -> int:
        """One decision with these events; its offset. `claim` other than the one in force makes it a zombie's."""
        at = self.chain.at
        decisions = (decision(*events, time_ms=time_ms),) if events else ()
        position = Position(offsets={"updates": 1})
        drafted = batch(at, *decisions, claim=at.claim if claim is None else claim, time_ms=time_ms, position=position)
        return self.write(drafted)

    def write(self, record: JournalRecord, *, follow: bool = True) -> int:
        """Sign a record as the writer of this journal and commit it; its offset."""
        signed = journalled(record, self._topic, self._partition, deployment=self._deployment)
        return self.commit(signed, follow=follow)

    def commit(self, data: bytes, *, follow: bool = True) -> int:
        """Write these bytes in a transaction; their offset."""
        offset = self._writer.commit([Draft(topic=self._topic, partition=self._partition, value=data)])[0]
        if follow:
            self.chain.follow(offset, data)
        return offset
