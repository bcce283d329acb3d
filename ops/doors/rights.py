"""What each principal may do on the brokers: the least with which its work gets done, by topic; and its quota.

Principals are named as roles are, beside them `serve`, `devices`, `operator`, and readers. The devices of a population
may have a principal of their own, `devices.POPULATION`, with the rights of all and a quota of its own. The writers are
those of the catalogue; a test compares both, and the tables in docs/operations.md. Whoever makes topics and grants
rights is a super user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from schemas.topics import (
    ANSWERS,
    BODIES,
    CATALOGUE,
    CHECKINS,
    CLOCK,
    ENROLMENTS,
    EVALUATIONS,
    LEDGER,
    MASKS,
    MODELS,
    PARTIALS,
    PUBLISHED,
    REGISTRY,
    ROLLOUTS,
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
class Quota:
    """What one principal may take of each broker; what is more is slowed down, never refused. None: no limit.

    `request_percent`: of one thread of a broker.
    """

    produce_bytes_s: float | None = None
    fetch_bytes_s: float | None = None
    request_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """Of one principal. `deletes`: records below an offset, once nobody needs them any more.

    `is_worker`: it divides partitions in a group of its name, and looks at the settings of all topics at its start.
    `is_actor`: it writes its journal in transactions of its name.
    `has_groups`: it may read in any group whose name begins with its own and a dot.
    `is_overseer`: it looks at settings, and at who divides partitions and how far they are, and changes nothing of it.
    """

    reads: tuple[Topic, ...]
    writes: tuple[Topic, ...] = ()
    deletes: tuple[Topic, ...] = ()
    is_worker: bool = False
    is_actor: bool = False
    has_groups: bool = False
    is_overseer: bool = False
    quota: Quota = Quota()


# Devices are strangers, and readers of no use to training: neither may keep a broker from those who train. A device
# fetches a model for each update that it sends, and what it sends lies there for 48 hours.
_DEVICES = Quota(produce_bytes_s=20_000_000, fetch_bytes_s=60_000_000, request_percent=200)
_READERS = Quota(produce_bytes_s=1_000_000, fetch_bytes_s=20_000_000, request_percent=100)


RIGHTS: Mapping[str, Rights] = {
    # It looks at everything: replays, exports and verifications are its own.
    "operator": Rights(writes=(TASKS, MODELS, ENROLMENTS), reads=CATALOGUE, is_overseer=True),
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
            ROLLOUTS,
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
    # It writes the time into a topic that nobody else reads, so that it can keep nobody busy but itself.
    "rollout": Rights(
        writes=(ROLLOUTS, PUBLISHED, CLOCK, SNAPSHOTS),
        reads=(ROUNDS, EVALUATIONS, CLOCK, TASKS, ROLLOUTS, PUBLISHED, SNAPSHOTS),
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
    "helper": Rights(writes=(MASKS, BODIES), reads=(TASKS, UPDATES, ROUNDS, REGISTRY, MASKS)),
    "evaluator": Rights(writes=(EVALUATIONS,), reads=(TASKS, ROUNDS, MODELS, EVALUATIONS)),
    # It passes on what devices have signed, and follows what everybody may know; of journals the registrar's alone.
    "gateway": Rights(
        writes=(CHECKINS, ENROLMENTS, BODIES, SHARDS, UPDATES), reads=(TASKS, PUBLISHED, REGISTRY, ANSWERS, MODELS)
    ),
    # The API and the page: the history, a replay on demand, models; and what stewards may do to tasks.
    "serve": Rights(
        writes=(TASKS, MODELS),
        reads=(
            TASKS,
            SELECTIONS,
            UPDATES,
            BODIES,
            SHARDS,
            ROUNDS,
            LEDGER,
            REGISTRY,
            EVALUATIONS,
            ROLLOUTS,
            MODELS,
            PUBLISHED,
        ),
    ),
    # What is public and nothing else: versions as they were announced, what they cost, and how they score.
    "archive": Rights(reads=(TASKS, LEDGER, EVALUATIONS, MODELS, PUBLISHED)),
    # The same, under a name of its own: what it knows of versions it hands on to another system.
    "mlflow": Rights(reads=(TASKS, LEDGER, EVALUATIONS, MODELS, PUBLISHED)),
    # No journal and nobody else's answers beyond their topic: what others sent is not a device's to read.
    "devices": Rights(
        writes=(CHECKINS, ENROLMENTS, BODIES, SHARDS, UPDATES), reads=(ANSWERS, MODELS, TASKS), quota=_DEVICES
    ),
    # The history in SQL, plots, reports: what happened, and no body that is not inside its update.
    "analysts": Rights(
        reads=(TASKS, SELECTIONS, UPDATES, ROUNDS, LEDGER, REGISTRY, EVALUATIONS, ROLLOUTS, PUBLISHED), quota=_READERS
    ),
    # Other services, which know the public contract alone, and may divide it among them. Which deployment is theirs to
    # believe stands at the beginning of `tasks`.
    "subscribers": Rights(reads=(TASKS, MODELS, PUBLISHED), has_groups=True, quota=_READERS),
}
DEVICES = "devices"
# The group that librdkafka asks for and nobody joins: the name of all bulk readers.
BULK_READERS = "bodies"


def list_principals(populations: Iterable[str] = ()) -> list[str]:
    """All of the table, and one for the devices of each of these populations."""
    return [*RIGHTS, *(f"{DEVICES}.{population}" for population in populations)]


def find_rights(principal: str) -> Rights | None:
    """Those of a principal; None for a stranger."""
    is_population = principal.startswith(f"{DEVICES}.")
    return RIGHTS.get(DEVICES if is_population else principal)


def list_grants(principal: str, *, prefix: str) -> Iterator[Grant]:
    """Every right of a principal on a cluster where topics have this prefix. Raises KeyError for a stranger."""
    rights = find_rights(principal)
    if rights is None:
        raise KeyError(principal)
    for operation, topics in (("WRITE", rights.writes), ("READ", rights.reads), ("DELETE", rights.deletes)):
        yield from (Grant(principal, "TOPIC", _name(prefix, topic.name), operation) for topic in topics)
    # librdkafka looks a group up even where partitions are assigned by hand.
    yield Grant(principal, "GROUP", _name(prefix, BULK_READERS), "DESCRIBE")
    if rights.has_groups:
        yield Grant(principal, "GROUP", _name(prefix, f"{principal}."), "READ", is_prefix=True)
    if rights.is_worker or rights.is_overseer:
        # A topic that a worker may not see would be missing for it, and it would refuse to run.
        for operation in ("DESCRIBE", "DESCRIBE_CONFIGS"):
            yield from (Grant(principal, "TOPIC", _name(prefix, topic.name), operation) for topic in CATALOGUE)
        yield Grant(principal, "CLUSTER", "kafka-cluster", "DESCRIBE_CONFIGS")
    if rights.is_worker:
        yield Grant(principal, "GROUP", _name(prefix, principal), "READ")
    if rights.is_overseer:
        groups = (name for name, each in RIGHTS.items() if each.is_worker)
        yield from (Grant(principal, "GROUP", _name(prefix, name), "DESCRIBE") for name in groups)
    if rights.is_actor:
        # The name of an actor and a dot, with a partition behind: one of another actor would fence that one.
        for operation in ("WRITE", "DESCRIBE"):
            yield Grant(principal, "TRANSACTIONAL_ID", _name(prefix, f"{principal}."), operation, is_prefix=True)


def list_resources(prefix: str) -> list[tuple[str, str]]:
    """Everything on the brokers that is this deployment's: kind and name, or beginning of a name."""
    groups = [BULK_READERS, *(name for name, rights in RIGHTS.items() if rights.is_worker)]
    open_groups = [f"{name}." for name, rights in RIGHTS.items() if rights.has_groups]
    writers = [f"{name}." for name, rights in RIGHTS.items() if rights.is_actor]
    found = (("TOPIC", [topic.name for topic in CATALOGUE]), ("GROUP", [*groups, *open_groups]))
    return [(kind, _name(prefix, name)) for kind, names in (*found, ("TRANSACTIONAL_ID", writers)) for name in names]


def _name(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
