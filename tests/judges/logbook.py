"""What an outsider can read of one partition: every journal along its own chain, every input, every lease handed out.

It knows the log and the schemas only. The chain is followed here by rules of its own, so that a fault in the code that
writes and reads journals cannot hide itself.
"""

from __future__ import annotations

import contextlib
import hashlib
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas.canonical import MalformedError, decode
from schemas.certificates import Certificate, Certified, parse_certified
from schemas.events import Answer, DefectFound, Granted, JournalEvent
from schemas.journal import Batch, Decision, JournalPosition, JournalRecord, WriterClaimed
from schemas.signing import parse_signed
from schemas.topics import (
    ANSWERS,
    CHECKINS,
    CLOCK,
    ENROLMENTS,
    EVALUATIONS,
    LEDGER,
    MASKS,
    PUBLISHED,
    REGISTRY,
    ROLLOUTS,
    ROUNDS,
    SELECTIONS,
    TASKS,
    UPDATES,
)
from streams.log import Bounds, EventLog, Record, TopicPartition

READS = {
    ROUNDS.name: (TASKS.name, UPDATES.name, LEDGER.name, EVALUATIONS.name, MASKS.name, ROLLOUTS.name),
    SELECTIONS.name: (CHECKINS.name, ROUNDS.name, REGISTRY.name),
    LEDGER.name: (ROUNDS.name,),
    REGISTRY.name: (ENROLMENTS.name,),
    ROLLOUTS.name: (ROUNDS.name, EVALUATIONS.name, CLOCK.name),
}
INPUTS = (TASKS.name, CHECKINS.name, UPDATES.name, EVALUATIONS.name, MASKS.name, ENROLMENTS.name, CLOCK.name)


@dataclass(slots=True)
class Journal:
    """One journal partition: its valid batches by offset, and where its chain stands after each record."""

    topic: str
    operator: bytes | None = None  # the public key that certifies writers; without it whoever says so is one
    claims: int = 0
    zombies: int = 0
    strangers: int = 0
    batches: list[tuple[int, Batch]] = field(default_factory=list)
    stands: list[tuple[int, JournalPosition]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def decisions(self) -> Iterator[Decision]:
        """Every decision, in order."""
        return (decision for _, batch in self.batches for decision in batch.decisions)

    def events(
        self, *kinds: Any, before: float = float("inf"), but: Collection[tuple[int, int]] = frozenset()
    ) -> list[Any]:
        """Events of these kinds in records below the offset `before`, in order, `but` these (record, number in it)."""
        found: list[JournalEvent] = []
        for offset, batch in self.batches:
            if offset < before:
                events = [event for decision in batch.decisions for event in decision.events]
                found += [event for number, event in enumerate(events) if (offset, number) not in but]
        return [event for event in found if not kinds or isinstance(event, kinds)]

    def passed(self, topic: str) -> set[tuple[int, int]]:
        """Facts of another journal on which this actor's own code failed: the record's offset, the number in it."""
        return {(event.first_offset, event.number) for event in self.events(DefectFound) if event.topic == topic}

    def position(self, topic: str) -> int:
        """The next offset of an input that is not decided yet, as the newest batch says."""
        return self.batches[-1][1].position.offsets.get(topic, 0) if self.batches else 0

    def stand(self, before: int) -> JournalPosition:
        """Where the chain stands after the last record below the offset `before`."""
        # By halves: it is asked for each batch of every reader, and an hour's log has fifty thousand.
        at = bisect_left(self.stands, before, key=itemgetter(0))
        return self.stands[at - 1][1] if at else JournalPosition()

    def cut(self, topic: str, end: int) -> None:
        """Forget the last batches: those that have read `topic` to beyond the offset `end`."""
        while self.position(topic) > end:
            self.batches.pop()

    def follow(self, record: Record) -> bool:
        """Take one record; False where nothing after it can be believed."""
        at = self.stands[-1][1] if self.stands else JournalPosition()
        data = record.value or b""
        try:
            message = parse_certified(data)
            item: Any = decode(message.payload, JournalRecord)  # type: ignore[arg-type]
        except MalformedError:
            return self._pass_over(record)
        match item:
            case WriterClaimed() if item.after > at.claim and _is_signed(record, message, key := self._key_in(message)):
                self.claims += 1
                head = _sha256(_sha256(at.head) + _sha256(data))
                at = JournalPosition(claim=record.offset, seq=at.seq, head=head, key=key)
            case Batch() if message.certificate or not _is_signed(record, message, at.key):
                return self._pass_over(record)
            case Batch() if item.claim < at.claim:
                self.zombies += 1
            case Batch() if item.claim == at.claim and item.seq <= at.seq:
                return self._pass_over(record)
            case Batch() if (item.claim, item.seq, item.prev) != (at.claim, at.seq + 1, at.head):
                return self._broken(record, f"claim {item.claim}, seq {item.seq} or its prev does not follow {at}")
            case Batch():
                at = JournalPosition(claim=at.claim, seq=item.seq, head=_sha256(data), key=at.key)
                self.batches.append((record.offset, item))
            case _:
                return self._pass_over(record)
        self.stands.append((record.offset, at))
        return True

    def _key_in(self, message: Certified) -> bytes:
        """The key in a certificate that the operator signed; one that signs nothing where there is none."""
        with contextlib.suppress(MalformedError, InvalidSignature):
            signed = parse_signed(message.certificate)
            if self.operator is not None:
                Ed25519PublicKey.from_public_bytes(self.operator).verify(signed.signature, signed.payload)
            return decode(signed.payload, Certificate).public_key
        return bytes(32)

    def _pass_over(self, record: Record) -> bool:
        self.strangers += 1
        # Before the first claim nobody can tell a stranger from a writer.
        return self.claims > 0 or self._broken(record, "stands before the first claim")

    def _broken(self, record: Record, what: str) -> bool:
        self.faults.append(f"{self.topic}@{record.offset}: off the chain: {what}")
        return False


def _is_signed(record: Record, message: Certified, key: bytes) -> bool:
    """Whether the holder of a key signed a journal's record for the place where it stands."""
    try:
        signed = f"{record.topic}/{record.partition}/".encode() + message.payload
        Ed25519PublicKey.from_public_bytes(key).verify(message.signature, signed)
    except InvalidSignature:
        return False
    return True


@dataclass(slots=True)
class Logbook:
    """Everything that one partition holds; read once, what depends on others first.

    With `noise_key` the noise of private tasks can be drawn again; with `operator`, a public key, and `deployment`
    forged records are told from true ones. `models` counts those that were recomputed.
    """

    partition: int
    published: list[Record]
    journals: dict[str, Journal]
    inputs: dict[str, list[Record]]
    sealed: dict[bytes, str]
    noise_key: bytes | None = None
    operator: bytes | None = None
    deployment: bytes | None = None
    models: int = 0

    @property
    def selections(self) -> Journal:
        return self.journals[SELECTIONS.name]

    @property
    def rounds(self) -> Journal:
        return self.journals[ROUNDS.name]

    @property
    def registry(self) -> Journal:
        return self.journals[REGISTRY.name]

    @property
    def ledger(self) -> Journal:
        return self.journals[LEDGER.name]


def read(
    log: EventLog,
    partition: int,
    *,
    noise_key: bytes | None = None,
    operator: bytes | None = None,
    deployment: bytes | None = None,
    sealed: dict[bytes, str] | None = None,
) -> Logbook:
    """The logbook of a partition; `sealed` maps every sealed lease ever handed out to its device.

    Whoever reads many partitions reads the leases once for all (`read_sealed`). Where everybody is at work, the other
    journals are taken as far as they rest on what was read of the aggregator's.
    """
    places = [TopicPartition(name, partition) for name in (PUBLISHED.name, *READS, *INPUTS)]
    answers = _list_answers(log) if sealed is None else []
    ends = {at: log.bounds(at) for at in (*places, *answers)}
    records = _records(log, ends)
    found = {at.topic: records[at] for at in places}
    journals = {name: _journal(name, found[name], operator) for name in READS}
    for journal in journals.values():
        journal.cut(ROUNDS.name, ends[TopicPartition(ROUNDS.name, partition)].end)
    if sealed is None:
        sealed = dict(_granted(record for at in answers for record in records[at]))
    inputs = {name: [message for record in found[name] for message in take_apart(record)] for name in INPUTS}
    return Logbook(partition, found[PUBLISHED.name], journals, inputs, sealed, noise_key, operator, deployment)


def read_sealed(log: EventLog) -> dict[bytes, str]:
    """Every sealed lease ever handed out, and its device; those of one task lie in any partition of `answers`."""
    records = _records(log, log.list_bounds(_list_answers(log)))
    return dict(_granted(record for found in records.values() for record in found))


def take_apart(record: Record) -> list[Record]:
    """The messages in a record of devices, as the decision on packing says; a record that holds no others itself."""
    value = record.value or b""
    # A stranger may write lists in lists without end.
    with contextlib.suppress(ValueError, RecursionError, msgspec.MsgspecError):
        found = msgspec.msgpack.decode(value, type=list[Any]) if len(value) <= 500_000 else []
        match found:
            case ["Packed/1", [*messages]] if 0 < len(messages) <= 64 and record.topic in (CHECKINS.name, UPDATES.name):
                if all(isinstance(each, bytes) for each in messages) and msgspec.msgpack.encode(found) == value:
                    return [replace(record, value=each, message=number) for number, each in enumerate(messages)]
    return [record]


def find_passed(defect: DefectFound) -> Iterable[tuple[int, int]]:
    """Places of the inputs that a defect stands for. Where it stands for many, tests have planted them in a row."""
    first, last = defect.first_offset, defect.last_offset
    if defect.count == 1:
        return [(first, defect.number)]
    return [(offset, 0) for offset in ((first, last) if defect.count == 2 else range(first, last + 1))]


def differences(what: str, expected: Sequence[Any], found: Sequence[Any]) -> Iterator[str]:
    """The first place where two lists that should be the same are not."""
    for number, (wanted, got) in enumerate(zip(expected, found, strict=False)):
        if wanted != got:
            yield f"{what}: number {number} is {got}, expected {wanted}"
            return
    if len(expected) != len(found):
        rest = (expected if len(expected) > len(found) else found)[min(len(expected), len(found))]
        yield f"{what}: {len(found)}, expected {len(expected)}; the first that differs is {rest}"


def _records(log: EventLog, bounds: Mapping[TopicPartition, Bounds]) -> dict[TopicPartition, list[Record]]:
    """Every record within these bounds, by one reader: many would take longer than what they read."""
    found: dict[TopicPartition, list[Record]] = {at: [] for at in bounds}
    reader = log.reader({at: beginning for at, (beginning, _) in bounds.items()})
    try:
        while any(reader.position(at) < end for at, (_, end) in bounds.items()):
            for record in reader.poll(0.2):
                at = TopicPartition(record.topic, record.partition)
                if record.offset < bounds[at].end:
                    found[at].append(record)
    finally:
        reader.close()
    return found


def _journal(topic: str, records: Sequence[Record], operator: bytes | None) -> Journal:
    journal = Journal(topic, operator)
    for record in records:
        if not journal.follow(record):
            break
    return journal


def _list_answers(log: EventLog) -> list[TopicPartition]:
    return [TopicPartition(ANSWERS.name, number) for number in range(log.partitions)]


def _granted(records: Iterable[Record]) -> Iterator[tuple[bytes, str]]:
    for record in records:
        # Answers that nobody signed are a stranger's, and hand out nothing.
        with contextlib.suppress(MalformedError):
            answer: Any = decode(parse_certified(record.value or b"").payload, Answer)  # type: ignore[arg-type]
            if isinstance(answer, Granted):
                yield answer.sealed, answer.device


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
