"""What is said about a simulated world in the end. It knows the log, and where the world itself broke a journal."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from actors.keys import ROLE_SECRETS
from schemas.events import DeviceQuarantined, ModelPublished, Noticed, QuarantineLifted, TaskHalted, name_unit
from schemas.topics import JOURNALS, ROUNDS
from streams.log import EventLog, TopicPartition, scan
from tests.judges.lawcheck import check_book, counted
from tests.judges.logbook import Journal, Logbook, read
from tests.judges.models import secret_faults
from tests.judges.rounds import round_faults
from tests.trials.simulation.devices import examples, identity
from tests.trials.simulation.tasks import Task
from tests.worlds.builders import DEPLOYMENT, KEY, NOISE, role_key


class Stuck(BaseException):
    """Somebody waits for ever, or fails in a way that no law allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """How one seed went and ended; `faults` is empty where every law held and everybody got on."""

    seed: int
    steps: int
    faults: list[str]
    digest: str
    trace: list[str]
    hits: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What the world alone knows: further faults of a partition that is whole, and further secrets."""

    judge: Callable[[EventLog, Logbook], Iterator[str]]
    list_secrets: Callable[[], dict[str, bytes]]
    seen: Counter[str] | None = None


def judged(log: EventLog, tasks: list[Task], *, broken: Collection[int], settled: bool, witness: Witness) -> list[str]:
    """Everything that is against a law; what the journals hold is counted where the witness wants it.

    Of a partition with a broken chain, or with a commit that readers cannot see yet, only the rounds that can be read
    are judged.
    """
    found: list[str] = []
    for partition in sorted({task.partition for task in tasks}):
        book = read(
            log,
            partition,
            noise_key=NOISE.secret,
            operator=KEY.public_key,
            deployment=DEPLOYMENT,
        )
        if partition in broken:
            found += round_faults(book, settled=False)
        else:
            found += [*check_book(log, book, settled=settled), *witness.judge(log, book)]
        if witness.seen is not None:
            witness.seen.update({f"log: {name}": count for name, count in counted(book).items()})
            witness.seen["models recomputed"] += book.models
    secrets = _secrets(tuple(sorted({name for task in tasks for name in task.devices}))) | witness.list_secrets()
    return [*found, *secret_faults(log, range(log.partitions) if settled else (), secrets)]


def digest_journals(log: EventLog, partitions: Iterable[int]) -> str:
    """Over every journal's bytes: the same seed gives the same."""
    whole = hashlib.sha256()
    for topic in JOURNALS:
        for partition in partitions:
            for record in scan(log, TopicPartition(topic.name, partition)):
                whole.update(f"{topic.name}/{partition}/{record.offset}/{record.time_ms}".encode())
                whole.update(record.value or b"")
    return whole.hexdigest()


def unpublished(log: EventLog, partition: int) -> list[str]:
    """Rounds that were proposed and got no version, which nobody may say of a partition where all has been read."""
    return [fault for fault in round_faults(read(log, partition), settled=True) if "got no version" in fault]


class Watch:
    """Follows the rounds of one partition as they are written: newest versions, who has halted, who is out."""

    def __init__(self, log: EventLog, partition: int) -> None:
        self.versions: dict[str, int] = {}
        self.halted: set[str] = set()
        self.quarantined: dict[tuple[str, str], DeviceQuarantined] = {}
        self._journal = Journal(ROUNDS.name)
        self._reader = log.reader({TopicPartition(ROUNDS.name, partition): 0})

    def look(self) -> None:
        """Read on to the end."""
        seen = len(self._journal.batches)
        for record in self._reader.poll(0):
            self._journal.follow(record)
        for _, batch in self._journal.batches[seen:]:
            for event in (event for decision in batch.decisions for event in decision.events):
                if isinstance(event, ModelPublished):
                    self.versions[event.task] = event.version
                if isinstance(event, TaskHalted):
                    self.halted.add(event.task)
                if isinstance(event, DeviceQuarantined):
                    self.quarantined[event.task, name_unit(event)] = event
                if isinstance(event, Noticed) and isinstance(event.fact, QuarantineLifted):
                    self.quarantined.pop((event.fact.task, name_unit(event.fact)), None)


def _shared_secrets() -> Iterator[tuple[str, bytes]]:
    yield "the operator's signatures", KEY.signing.private_bytes_raw()
    for role in ROLE_SECRETS:
        yield from role_key(role).shared.items()


@lru_cache(maxsize=64)
def _secrets(names: tuple[str, ...]) -> dict[str, bytes]:
    """Everything that may stand in no topic."""
    keys = {f"the key of the {role}": role_key(role).secret for role in ROLE_SECRETS}
    keys |= {f"the shared key for {label}": secret for label, secret in _shared_secrets()}
    devices = {f"the key of {name}": identity(name).key.private_bytes_raw() for name in names}
    data = {f"an example of {name}": row.tobytes() for name in names for row in examples(name)[0]}
    return {"the operator's key": KEY.secret, **keys, **devices, **data}
