"""What can be checked of journals without a body: each one's chain, what they say of one another, and signed heads.

A chain shows whatever was changed, dropped, moved or put in between; but nothing follows its last record. So each batch
also says where the chains of the journals stood that its actor had read, and every version is announced with the head
of its journal, signed. Where none of these reaches, beyond the last checkpoint, nothing can tell a cut tail.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from actors.wiring import ROLES
from ops.audit.findings import Fault
from schemas.canonical import MalformedError
from schemas.journal import JournalPosition, Position
from schemas.published import Checkpoint, Head, checkpoint
from schemas.topics import PUBLISHED
from streams.journals import AcceptsResume, JournalBroken, JournalReader, reject_all
from streams.log import EventLog, TopicPartition, scan


@dataclass(slots=True)
class ChainReport:
    """What was found on one journal partition; `fault` names the first record off the chain, and why."""

    topic: str
    partition: int
    records: int = 0
    batches: int = 0
    claims: int = 0
    resumes: int = 0
    zombies: int = 0
    decisions: int = 0
    seq: int = -1
    offset: int | None = None
    fault: str | None = None
    end: int = 0
    stands: list[tuple[int, JournalPosition]] = field(default_factory=list)  # the chain after each record
    said: list[tuple[int, Position]] = field(default_factory=list)  # what each batch says of its inputs

    @property
    def place(self) -> TopicPartition:
        """The journal partition."""
        return TopicPartition(self.topic, self.partition)

    def plain(self) -> dict[str, Any]:
        """The figures, for machines."""
        return {name: getattr(self, name) for name in ChainReport.__slots__ if name not in ("end", "stands", "said")}

    def last(self, before: int) -> tuple[int, JournalPosition]:
        """The last record below the offset `before`, and where the chain stands after it."""
        number = bisect_left(self.stands, before, key=lambda stand: stand[0])
        return self.stands[number - 1] if number else (-1, JournalPosition())

    def stand(self, before: int) -> JournalPosition:
        """Where the chain stands there."""
        return self.last(before)[1]

    def head(self) -> Head:
        """Where the chain stands now."""
        at = self.stands[-1][1] if self.stands else JournalPosition()
        return Head(topic=self.topic, partition=self.partition, seq=at.seq, head=at.head.hex())


def verified(log: EventLog, place: TopicPartition, *, accepts_resume: AcceptsResume = reject_all) -> ChainReport:
    """Follow the chain of one journal partition to its end or to its first fault."""
    end = log.bounds(place).end
    report = ChainReport(*place, end=end)
    journal = JournalReader(place, accepts_resume=accepts_resume)
    before = journal.position
    try:
        for record, batch in journal.read(log, end=end):
            report.records += 1
            if batch is not None:
                report.batches += 1
                report.decisions += len(batch.decisions)
                report.said.append((record.offset, batch.position))
            elif journal.position != before:
                claimed = journal.position.claim != before.claim
                report.claims += claimed
                report.resumes += not claimed
            before = journal.position
            report.stands.append((record.offset, before))
            report.zombies, report.seq = journal.zombies, before.seq
    except JournalBroken as error:
        report.offset, report.fault = error.place.offset, error.what
    return report


class Verification:
    """Checks one partition: its journals, what they say of one another, its announcements, and other checkpoints.

    `public_key` is the operator's, 32 bytes; without it a signature is only checked against the key that it names.
    """

    def __init__(
        self, log: EventLog, partition: int, *, accepts_resume: AcceptsResume, public_key: bytes | None
    ) -> None:
        self.partition = partition
        self.checkpoints = 0
        self._log, self._key = log, public_key
        places = [TopicPartition(role.journal, partition) for role in ROLES.values()]
        self.reports = {place.topic: verified(log, place, accepts_resume=accepts_resume) for place in places}

    def faults(self, checkpoints: Iterable[Checkpoint] = ()) -> Iterator[Fault]:
        """Everything that is wrong, broken chains first."""
        for report in self.reports.values():
            if report.fault is not None:
                yield Fault(report.place, report.offset, report.fault)
        for report in self.reports.values():
            yield from self._link_faults(report)
        yield from self._announcement_faults()
        for given in checkpoints:
            for head in given.heads:
                if head.partition == self.partition and (fault := self._head_fault(head)):
                    yield Fault(TopicPartition(head.topic, head.partition), None, f"checkpoint {given.id}: {fault}")

    def _link_faults(self, report: ChainReport) -> Iterator[Fault]:
        """What an actor has read of another journal must be what stands there; the first difference of each."""
        topics = {topic for _, position in report.said for topic in position.journals}
        for topic in sorted(topics):
            for offset, position in report.said:
                if topic in position.journals and (fault := self._link_fault(topic, position)):
                    yield Fault(report.place, offset, fault)
                    break

    def _link_fault(self, topic: str, position: Position) -> str | None:
        other, until, at = self.reports.get(topic), position.offsets.get(topic, 0), position.journals[topic]
        if other is None:
            return f"has read {topic}, which is no journal"
        if self._is_unread(other, until) or other.stand(until) == at:
            return None
        last, found = other.last(until)
        return (
            f"has read {topic} below offset {until} up to seq {at.seq}, head {at.head.hex()[:16]}; "
            f"with the record at offset {last} there it is at seq {found.seq}, head {found.head.hex()[:16]}"
        )

    def _is_unread(self, report: ChainReport, until: int) -> bool:
        """Whether nothing can be said up to this offset: behind a fault, or written since the journal was read."""
        if report.fault is not None and until > (report.offset or 0):
            return True
        return until > report.end and self._log.bounds(report.place).end > report.end

    def _announcement_faults(self) -> Iterator[Fault]:
        at = TopicPartition(PUBLISHED.name, self.partition)
        signs = False  # once announcements are signed, all are
        for record in scan(self._log, at):
            try:
                given = checkpoint(record.value or b"")
            except MalformedError as error:
                yield Fault(at, record.offset, str(error))
                continue
            if record.key != given.id.partition("/")[0].encode():
                yield Fault(at, record.offset, f"{given.id} stands under another key")
            if given.signed_by is None and signs:
                yield Fault(at, record.offset, f"{given.id} is not signed, and those before it are")
            elif fault := self.signer_fault(given):
                yield Fault(at, record.offset, fault)
            signs = signs or given.signed_by is not None
            for head in given.heads:
                if fault := self._head_fault(head):
                    yield Fault(at, record.offset, f"{given.id}: {fault}")

    def signer_fault(self, given: Checkpoint) -> str | None:
        """What is wrong with who signed it."""
        if given.signed_by is None or self._key in (None, given.signed_by):
            return None
        return f"{given.id} is signed by {given.signed_by.hex()[:16]}, not with the operator's key"

    def _head_fault(self, head: Head) -> str | None:
        report = self.reports.get(head.topic)
        if report is None or head.partition != self.partition:
            return f"speaks of {TopicPartition(head.topic, head.partition)}, which is no journal here"
        self.checkpoints += 1
        # Claims move the head and not the seq, so several heads can stand at one.
        first = bisect_left(report.stands, head.seq, key=lambda stand: stand[1].seq)
        heads = []
        for _, at in report.stands[first:]:
            if at.seq != head.seq:
                break
            heads.append(at.head.hex())
        if head.head in heads or head.seq < 0:
            return None
        if heads:
            return f"{head.topic} had the head {head.head[:16]} at seq {head.seq}, and has {heads[0][:16]}: rewritten"
        if report.fault is not None or self._log.bounds(report.place).end > report.end:
            return None
        return f"{head.topic} reached seq {head.seq}, and ends at seq {report.seq}: its tail is cut off"
