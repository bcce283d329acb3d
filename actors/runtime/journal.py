"""The journal partition that one actor writes: its claim, its chain, and one fenced transaction a commit.

Decisions wait here until `commit`: what only counts is added up, and all are cut into records below the limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec

from actors.deciders.tallies import TALLY_BYTES_MAX, TALLY_KINDS, Tallies, split
from actors.runtime.effects import ExtraRecord
from actors.runtime.role import Role
from schemas.canonical import JOURNAL_RECORD_BYTES_MAX, MalformedError, encode, encode_state
from schemas.certificates import Signer, Trust
from schemas.errors import FedlogError
from schemas.events import StateDigest
from schemas.identifiers import SALT_BYTES
from schemas.journal import (
    Batch,
    Chain,
    ChainBroken,
    Decision,
    JournalPosition,
    Position,
    WriterClaimed,
    open_record,
    sign_record,
)
from streams.holes import Holes
from streams.journals import JournalReader
from streams.log import CommitUncertain, Draft, EventLog, LogUnavailable, Record, TopicPartition, WriterFenced, scan
from streams.retry import retry_until_available

_MARKERS = 1  # behind the records of a transaction, before the first of the next
# Leaves room beside the decisions for the position, and for the places of all messages in one record.
_BATCH_BYTES = JOURNAL_RECORD_BYTES_MAX - 16_384
DECISION_BYTES_MAX = _BATCH_BYTES - 1_024  # the same for its place, and a digest


class DecisionTooLarge(FedlogError):
    """What an input causes does not fit into one record of a journal, and would be off the chain for every reader."""

    code = "decision_too_large"


class WrittenBatch(NamedTuple):
    """A batch at its offset of the journal; `at` is where the chain stands after it."""

    batch: Batch
    offset: int
    at: JournalPosition


class Uncommitted(NamedTuple):
    """The decisions on one record, not in the journal yet, the position after it, and what belongs beside them."""

    decisions: Sequence[Decision]
    position: Position
    extra_records: Sequence[ExtraRecord] = ()


@dataclass(slots=True)
class _Packed:
    """One record: what is counted, decisions in their own bytes too, the position after them, what goes beside them."""

    tallies: Tallies | None = None
    decisions: list[Decision] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)
    position: Position = field(default_factory=Position)
    extra_records: list[ExtraRecord] = field(default_factory=list)
    room: int = field(default_factory=lambda: _BATCH_BYTES)

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more go into it."""
        # The first of a record always fits: the actor has refused what is larger than one.
        if size > self.room and self.room < _BATCH_BYTES:
            return False
        return not (self.decisions and isinstance(self.decisions[-1].events[-1], StateDigest))

    def finish(self) -> None:
        """Put what is counted before what is decided: a digest has to stay the last word of its record."""
        if self.tallies is None:
            return
        counted = self.tallies.make_decisions()
        self.decisions = [*counted, *self.decisions]
        # Encoded here and not with the whole record, as each of the others was when its length was taken.
        self.encoded = [*map(encode, counted), *self.encoded]


class Journal:
    """One partition of one actor's journal, under one claim. `uncommitted` is what the next commit writes."""

    def __init__(self, log: EventLog, role: Role, partition: int, *, signer: Signer, trust: Trust) -> None:
        self._role, self.at = role, TopicPartition(role.journal, partition)
        self.uncommitted: list[Uncommitted] = []
        self.extra_records: list[ExtraRecord] = []  # of the decision that is being made
        self.left_bytes = DECISION_BYTES_MAX  # in a record, for that decision
        self._log, self._signer = log, signer
        self._holes, self._chain = Holes(log), Chain(*self.at, trust=trust)

    def __str__(self) -> str:
        return str(self.at)

    @property
    def actor(self) -> str:
        """The name of the actor that writes it."""
        return self._role.name

    @property
    def ends(self) -> Mapping[TopicPartition, int]:
        """How far readers must see what was committed under this claim, here and beside."""
        return self._writer.ends

    @property
    def seq(self) -> int:
        """Of the newest batch."""
        return self._chain.at.seq

    def set_position(self, at: JournalPosition) -> None:
        """Read or write on from there."""
        self._chain.at = at

    def claim(self) -> None:
        """Fence the writer before, and take its place."""
        beside = [TopicPartition(topic, self.at.partition) for topic in self._role.written_beside]
        self._writer = self._log.writer(f"{self.actor}.{self.at.partition}", settles=beside)
        claim = WriterClaimed(
            actor=self.actor,
            partition=self.at.partition,
            # Asked once the writer before is fenced: its claim stands below, however late it becomes visible.
            after=self._log.find_written_end(self.at),
            # Random, so that no batch of a zombie can fit on the chain behind a claim that its writer has never read.
            nonce=os.urandom(32),
        )
        signed = self._sign(encode(claim), self._signer.certificate)
        [self.claimed] = self._writer.commit([Draft(**self.at._asdict(), value=signed)])
        self._end = self.claimed + 1

    def record(self, offset: int) -> Record | None:
        """The record at an offset before our own claim, on the chain or not; None where there is none."""
        return next(self._read(offset, offset + 1), None) if offset < self.claimed else None

    def prove(self, record: Record) -> WrittenBatch:
        """The batch that a record of this journal is, wherever the chain stands. Raises ChainBroken for any other.

        Its claim says with which key it has to be signed; that it is on the chain, and no copy, this does not say.
        """
        try:
            found = open_record(record.value or b"")
        except MalformedError as error:
            raise ChainBroken(f"not a journal record ({error})", offset=record.offset) from error
        claimed = self.record(found.claim) if isinstance(found, Batch) else None
        if claimed is None or not isinstance(found, Batch):
            raise ChainBroken("no batch under a claim", offset=record.offset)
        chain = Chain(*self.at, trust=self._chain.trust)
        # A chain without a claim passes nothing over: unless this is one, by the role's certified key, it raises.
        chain.follow(claimed.offset, claimed.value or b"", time_ms=claimed.time_ms)
        chain.at = JournalPosition(claim=found.claim, seq=found.seq - 1, head=found.prev, key=chain.at.key)
        if (batch := chain.follow(record.offset, record.value or b"")) is None:
            raise ChainBroken("a batch that the writer of its claim did not sign", offset=record.offset)
        return WrittenBatch(batch, record.offset, chain.at)

    def batches(self, start: int | None = None) -> Iterator[WrittenBatch]:
        """Every batch of the chain from `start`, or the beginning, to our own claim.

        Raises ChainBroken, CommitUncertain where the log has gone past our claim and does not hold it, and
        ReadersHeldBack where a broker that crashed has not ended the claim's transaction: the next claim ends it.
        """
        first = self._log.bounds(self.at).beginning if start is None else start
        journal = JournalReader(self.at, trust=self._chain.trust, position=self._chain.at)
        # Wait for the claim itself: a commit is acknowledged before readers can see its records.
        for record in scan(self._log, self.at, start=first, end=self.claimed + 1, gives_up=True):
            batch = journal.follow(record)
            if batch is not None:
                yield WrittenBatch(batch, record.offset, journal.position)
        self._chain.at = journal.position
        # Without its own claim on the chain an actor would write batches that every reader skips.
        if self._chain.at.claim != self.claimed:
            raise CommitUncertain(f"{self}: the claim at offset {self.claimed} is not in the log")

    def commit(self, position: Position, *, time_ms: int) -> list[WrittenBatch]:
        """Write all that is uncommitted, with what belongs beside it, in one transaction for each record.

        `position` is the one after the last input; where nothing was decided it is written alone. Raises WriterFenced
        or CommitUncertain.
        """
        # With two in one transaction that was aborted, a stranger could copy the second without the first: its writer
        # has signed it and it does not follow, which looks like a loss and stops every reader.
        written = [self._commit(packed, time_ms=time_ms) for packed in _pack(self.uncommitted, position)]
        self.uncommitted = []
        return written

    def _commit(self, packed: _Packed, *, time_ms: int) -> WrittenBatch:
        packed.finish()
        before = self._chain.at
        batch = Batch(
            seq=before.seq + 1,
            claim=before.claim,
            prev=before.head,
            # Drawn here and not in a decision, which has to come out the same on every replay.
            nonce=os.urandom(SALT_BYTES),
            time_ms=time_ms,
            position=packed.position,
            decisions=tuple(packed.decisions),
        )
        # Each decision was encoded, and its numbers checked, before.
        raw = tuple(msgspec.Raw(data) for data in packed.encoded)
        data = self._sign(encode_state(msgspec.structs.replace(batch, decisions=raw)))
        self._chain.append(batch, data)
        extra = [record(self._chain.at) for record in packed.extra_records]
        offset = self._writer.commit([Draft(**self.at._asdict(), value=data), *extra])[0]
        # Nobody else writes here, so that only a hole behind our last record can hold another claim; also one before
        # its marker, because who has stolen our key fences nobody. What follows a claim is a zombie's, and void. A
        # snapshot that a zombie took off the chain would be proven by a record that is there, and no reader would see
        # the claim before it.
        start, self._end = self._end, offset + 1
        if start + _MARKERS < offset and self._find_first(start, end=offset) < offset:
            retry_until_available(partial(self._require_unclaimed, before, start, end=offset))
        return WrittenBatch(batch, offset, self._chain.at)

    def write_missing(self, drafts: Sequence[Draft]) -> None:
        """Commit records that belong beside batches of an earlier life."""
        self._writer.commit(drafts)

    def close(self) -> None:
        """Release the writer, which is not there where the claim has found no broker."""
        self._holes.close()
        if hasattr(self, "_writer"):
            self._writer.close()

    def require_alone(self) -> None:
        """Raise WriterFenced where another has claimed it since: then our state is old, and its failures say nothing.

        Raises LogUnavailable.
        """
        self._require_unclaimed(self._chain.at, self._end, end=self._log.bounds(self.at).end)

    def is_alone(self) -> bool:
        """The same; False where it cannot be known now. Raises WriterFenced."""
        try:
            self.require_alone()
        # Not to know counts as not alone: an input is blamed only where nothing else can be the cause.
        except LogUnavailable:
            return False
        return True

    def _find_first(self, start: int, *, end: int) -> int:
        # A broker that is away is waited for: what has been committed must not be committed again.
        return retry_until_available(lambda: self._holes.find_first(self.at, start, end=end))

    def _require_unclaimed(self, before: JournalPosition, start: int, *, end: int) -> None:
        chain = Chain(*self.at, trust=self._chain.trust, at=before)
        for record in self._read(start, end):
            chain.follow(record.offset, record.value or b"", time_ms=record.time_ms)
        if chain.at != before:
            raise WriterFenced(f"{self}: another writer has claimed it before offset {end}")

    def _read(self, start: int, end: int) -> Iterator[Record]:
        """Every committed record from `start` up to, not including, `end`; waits until that can be read."""
        return scan(self._log, self.at, start=start, end=end)

    def _sign(self, record: bytes, certificate: bytes = b"") -> bytes:
        return sign_record(record, **self.at._asdict(), key=self._signer.key, certificate=certificate)


def _pack(uncommitted: Sequence[Uncommitted], position: Position) -> list[_Packed]:
    """Records below the limit, each with the position after its last decision; a digest closes its record.

    Inputs after the last decision decided nothing, and `position` covers them too.
    """
    done, packed = list[_Packed](), _Packed()
    for one in uncommitted:
        # Never cut: the position passes the record that they decide as a whole, or what came behind a crash between
        # two of its messages would be lost.
        decided, counted = _split_all(one.decisions)
        encoded = [*map(encode, decided)]
        size = sum(map(len, encoded)) + sum(_size_of(each, packed.tallies) for each in counted)
        if not packed.has_room(size):
            done.append(packed)
            packed = _Packed()
        if counted:
            packed.tallies = packed.tallies or Tallies()
            for each in counted:
                packed.tallies.add(each)
        packed.decisions += decided
        packed.encoded += encoded
        packed.extra_records.extend(one.extra_records)
        packed.position, packed.room = one.position, packed.room - size
    packed.position = position
    return [*done, packed]


def _split_all(decisions: Sequence[Decision]) -> tuple[Sequence[Decision], Sequence[Decision]]:
    """What is decided on one record, and the sum of what is only counted there."""
    # In nearly every decision nothing only counts, and it is encoded as it is.
    if all(TALLY_KINDS.isdisjoint(map(type, decision.events)) for decision in decisions):
        return decisions, ()
    halves = [split(decision) for decision in decisions]
    tallies = Tallies()
    for counted, _ in halves:
        if counted.events:
            tallies.add(counted)
    return [decided for _, decided in halves if decided.events], tallies.make_decisions()


def _size_of(counted: Decision, tallies: Tallies | None) -> int:
    """At most so many bytes more does a record get by what is counted: none for what it counts already."""
    return TALLY_BYTES_MAX * (tallies or Tallies()).count_new(counted)
