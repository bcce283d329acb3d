"""What each principal may do on the brokers: the least with which its work gets done, by topic.

Principals are named as roles are, `devices` and `operator` beside them. The writers are those of the catalogue; a test
compares both, and the table in docs/operations.md. Whoever makes topics and grants rights is a super user.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.topics import (
    ANSWERS,
    BODIES,
    CATALOGUE,
    CHECKINS,
    ENROLMENTS,
    EVALUATIONS,
    LEDGER,
    MASKS,
    MODELS,
    PARTIALS,
    PUBLISHED,
    REGISTRY,
    ROUNDS,
    SELECTIONS,
    SHARDS,
    SNAPSHOTS,
    TASKS,
    UPDATES,
    Topic,
)
from streams.kafka.access import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Of one principal. `deletes`: records below an offset, once nobody needs them any more.

    `is_worker`: it divides partitions in a group of its name, and looks at the settings of all topics at its start.
    `is_actor`: it writes its journal in transactions of its name.
    """

    writes: tuple[Topic, ...]
    reads: tuple[Topic, ...]
    deletes: tuple[Topic, ...] = ()
    is_worker: bool = False
    is_actor: bool = False


RIGHTS: Mapping[str, Rights] = {
    # It looks at everything: replays, exports and verifications are its own.
    "operator": Rights(writes=(TASKS, MODELS, ENROLMENTS), reads=CATALOGUE),
    "selector": Rights(
        writes=(SELECTIONS, ANSWERS, CHECKINS, SNAPSHOTS),
        reads=(CHECKINS, ROUNDS, REGISTRY, TASKS, SELECTIONS, SNAPSHOTS),
        is_worker=True,
        is_actor=True,
    ),
    "aggregator": Rights(
        writes=(ROUNDS, PUBLISHED, ANSWERS, MODELS, UPDATES, SNAPSHOTS),
        reads=(
            TASKS,
            UPDATES,
            LEDGER,
            EVALUATIONS,
            MASKS,
            BODIES,
            SHARDS,
            PARTIALS,
            MODELS,
            ROUNDS,
            PUBLISHED,
            SNAPSHOTS,
        ),
        deletes=(BODIES,),
        is_worker=True,
        is_actor=True,
    ),
    "privacy": Rights(
        writes=(LEDGER, SNAPSHOTS), reads=(ROUNDS, TASKS, LEDGER, SNAPSHOTS), is_worker=True, is_actor=True
    ),
    "registrar": Rights(
        writes=(REGISTRY, ANSWERS, SNAPSHOTS),
        reads=(ENROLMENTS, TASKS, REGISTRY, SNAPSHOTS),
        is_worker=True,
        is_actor=True,
    ),
    "shard": Rights(
        writes=(SHARDS, PARTIALS),
        reads=(TASKS, UPDATES, ROUNDS, SHARDS, PARTIALS),
        deletes=(SHARDS,),
        is_worker=True,
    ),
    # Perhaps somebody else's: it opens what devices have sealed to it, and stores what comes off a sum.
    "helper": Rights(writes=(MASKS, BODIES), reads=(TASKS, UPDATES, ROUNDS, MASKS)),
    "evaluator": Rights(writes=(EVALUATIONS,), reads=(TASKS, ROUNDS, MODELS, EVALUATIONS)),
    # It passes on what devices have signed, and follows what everybody may know; of journals the registrar's alone.
    "gateway": Rights(
        writes=(CHECKINS, ENROLMENTS, BODIES, SHARDS, UPDATES), reads=(TASKS, PUBLISHED, REGISTRY, ANSWERS, MODELS)
    ),
    # No journal and nobody else's answers beyond their topic: what others sent is not a device's to read.
    "devices": Rights(writes=(CHECKINS, ENROLMENTS, BODIES, SHARDS, UPDATES), reads=(ANSWERS, MODELS, TASKS)),
}
# The group that librdkafka asks for and nobody joins: the name of all bulk readers.
BULK_READERS = "bodies"


def list_grants(role: str, *, prefix: str) -> Iterator[Grant]:
    """Every right of a principal on a cluster where topics have this prefix."""
    rights = RIGHTS[role]
    for operation, topics in (("WRITE", rights.writes), ("READ", rights.reads), ("DELETE", rights.deletes)):
        yield from (Grant(role, "TOPIC", _name(prefix, topic.name), operation) for topic in topics)
    # librdkafka looks a group up even where partitions are assigned by hand.
    yield Grant(role, "GROUP", _name(prefix, BULK_READERS), "DESCRIBE")
    if rights.is_worker:
        # A topic that a worker may not see would be missing for it, and it would refuse to run.
        for operation in ("DESCRIBE", "DESCRIBE_CONFIGS"):
            yield from (Grant(role, "TOPIC", _name(prefix, topic.name), operation) for topic in CATALOGUE)
        yield Grant(role, "GROUP", _name(prefix, role), "READ")
        yield Grant(role, "CLUSTER", "kafka-cluster", "DESCRIBE_CONFIGS")
    if rights.is_actor:
        # The name of an actor and a dot, with a partition behind: one of another actor would fence that one.
        for operation in ("WRITE", "DESCRIBE"):
            yield Grant(role, "TRANSACTIONAL_ID", _name(prefix, f"{role}."), operation, is_prefix=True)


def _name(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
