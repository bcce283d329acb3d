"""The journal partition that one actor writes: its claim, its chain, and one fenced transaction a commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from actors.runtime.role import Role
from schemas.canonical import encode
from schemas.journal import Batch, Chain, ChainResumed, Decision, JournalPosition, Position, WriterClaimed
from streams.log import CommitUncertain, Draft, EventLog, LogUnavailable, Record, TopicPartition, WriterFenced

_TRANSACTION_OFFSETS = 2  # from the last record of one transaction to the first of the next; between them its marker


Beside = Callable[[Batch, JournalPosition], list[Draft]]


class Written(NamedTuple):
    """A batch at its offset of the journal; `at` is where the chain stands after it."""

    batch: Batch
    offset: int
    at: JournalPosition


class Journal:
    """One partition of one role's journal, under one claim."""

    def __init__(
        self, log: EventLog, role: Role, partition: int, *, accepts_resume: Callable[[ChainResumed], bool]
    ) -> None:
        self.at = TopicPartition(role.journal, partition)
        self._log, self.actor, self._accepts_resume = log, role.name, accepts_resume
        self.stand(JournalPosition())

    def __str__(self) -> str:
        return f"{self.at.topic}[{self.at.partition}]"

    @property
    def seq(self) -> int:
        """Of the newest batch."""
        return self._chain.at.seq

    def stand(self, at: JournalPosition) -> None:
        """Go on from there."""
        self._chain = Chain(at=at, accepts_resume=self._accepts_resume)

    def claim(self) -> None:
        """Fence the writer before, and take its place."""
        self._writer = self._log.writer(f"{self.actor}.{self.at.partition}")
        claim = WriterClaimed(actor=self.actor, partition=self.at.partition, nonce=os.urandom(32))
        [self.claimed] = self._writer.commit([self._draft(encode(claim))])
        self._end = self.claimed + _TRANSACTION_OFFSETS

    def record(self, offset: int) -> Record | None:
        """What stands at an offset before our own claim, on the chain or not."""
        return next(self._read(offset, offset + 1), None) if offset < self.claimed else None

    def batches(self, start: int | None = None) -> Iterator[Written]:
        """Every batch of the chain from `start`, or the beginning, to our own claim.

        Raises ChainBroken, and CommitUncertain where the log has gone past our claim and does not hold it.
        """
        first = self._log.bounds(self.at).beginning if start is None else start
        # The claim is waited for: a commit is acknowledged before readers can see its records.
        for record in self._read(first, self.claimed + 1):
            batch = self._chain.follow(record.offset, record.value or b"")
            if batch is not None:
                yield Written(batch, record.offset, self._chain.at)
        if self._chain.at.claim != self.claimed:
            raise CommitUncertain(f"{self}: the claim at offset {self.claimed} is not in the log")

    def write(
        self, packed: Sequence[tuple[Sequence[Decision], Position]], *, time_ms: int, beside: Beside
    ) -> list[Written]:
        """Commit these batches and what belongs beside each, or nothing. Raises WriterFenced or CommitUncertain."""
        standing, batches, drafts, others = self._chain.at, list[tuple[Batch, JournalPosition]](), list[Draft](), []
        for decisions, position in packed:
            chain = self._chain.at
            batch = Batch(
                seq=chain.seq + 1,
                claim=chain.claim,
                prev=chain.head,
                time_ms=time_ms,
                position=position,
                decisions=tuple(decisions),
            )
            data = encode(batch)
            self._chain.wrote(batch, data)
            batches.append((batch, self._chain.at))
            drafts.append(self._draft(data))
            others += beside(batch, self._chain.at)
        offsets = self._writer.commit([*drafts, *others])[: len(drafts)]
        self._require_ours(standing, offsets)
        return [Written(batch, offset, at) for (batch, at), offset in zip(batches, offsets, strict=True)]

    def write_beside(self, drafts: Sequence[Draft]) -> None:
        """Commit records that belong to batches of an earlier life."""
        self._writer.commit(drafts)

    def close(self) -> None:
        """Let go of it."""
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
        except LogUnavailable:
            return False
        return True

    def _require_ours(self, standing: JournalPosition, offsets: Sequence[int]) -> None:
        """Raise WriterFenced where another claim stands before what was just committed: it is a zombie's, and void.

        Nobody else writes here, so that only a hole behind our transaction before can hold one. A snapshot that a
        zombie took off the chain would be proven by a record that is there, and nobody would see the claim before it.
        """
        before, self._end = self._end, offsets[-1] + _TRANSACTION_OFFSETS
        self._require_unclaimed(standing, before, end=offsets[0])

    def _require_unclaimed(self, standing: JournalPosition, start: int, *, end: int) -> None:
        chain = Chain(at=standing, accepts_resume=self._accepts_resume)
        for record in self._read(start, end):
            chain.follow(record.offset, record.value or b"")
        if chain.at != standing:
            raise WriterFenced(f"{self}: another writer has claimed it before offset {end}")

    def _read(self, start: int, end: int) -> Iterator[Record]:
        """Every committed record from `start` up to, not including, `end`; waits until that can be read."""
        if start >= end:
            return
        reader = self._log.reader({self.at: start})
        try:
            while reader.position(self.at) < end:
                yield from (record for record in reader.poll(timeout_s=1.0) if record.offset < end)
        finally:
            reader.close()

    def _draft(self, data: bytes) -> Draft:
        return Draft(**self.at._asdict(), value=data)
