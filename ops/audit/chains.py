"""The chain of one journal partition: followed to its end or to its first fault, with all that other checks compare.

Called by `verification`, and by `export` for what it has written.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from schemas.certificates import Trust
from schemas.journal import JournalPosition, Position
from schemas.published import Head
from streams.journals import JournalBroken, JournalReader
from streams.log import EventLog, TopicPartition


@dataclass(slots=True)
class ChainReport:
    """One journal partition; `fault` says why the record at `offset` does not continue the chain.

    `strangers` counts records that no writer of it signed: they decide nothing, and are no fault of the journal.

    `positions` has where the chain stands after each record, `reported_inputs` what each batch says of its inputs.
    """

    topic: str
    partition: int
    records: int = 0
    batches: int = 0
    claims: int = 0
    zombies: int = 0
    strangers: int = 0
    first_stranger: int | None = None  # its offset
    decisions: int = 0
    seq: int = -1
    offset: int | None = None
    fault: str | None = None
    end: int = 0
    positions: list[tuple[int, JournalPosition]] = field(default_factory=list)
    reported_inputs: list[tuple[int, Position]] = field(default_factory=list)

    @property
    def place(self) -> TopicPartition:
        """The journal partition."""
        return TopicPartition(self.topic, self.partition)

    @property
    def head(self) -> Head:
        """Where the chain stands now."""
        at = self.positions[-1][1] if self.positions else JournalPosition()
        return Head(topic=self.topic, partition=self.partition, seq=at.seq, head=at.head.hex())

    def plain(self) -> dict[str, Any]:
        """The figures, as one JSON object."""
        # A script reads the figures; the positions grow with the journal and are for other checks only.
        left_out = ("end", "positions", "reported_inputs")
        return {name: getattr(self, name) for name in ChainReport.__slots__ if name not in left_out}

    def find_last(self, before: int) -> tuple[int, JournalPosition]:
        """The last record below the offset `before`, and where the chain stands after it."""
        number = bisect_left(self.positions, before, key=lambda position: position[0])
        return self.positions[number - 1] if number else (-1, JournalPosition())

    def find_heads(self, seq: int) -> list[str]:
        """The heads of the chain at `seq`, in hex. Claims move the head and not the seq, so there can be several."""
        first = bisect_left(self.positions, seq, key=lambda position: position[1].seq)
        heads = []
        for _, at in self.positions[first:]:
            if at.seq != seq:
                break
            heads.append(at.head.hex())
        return heads


def verify_chain(log: EventLog, place: TopicPartition, *, trust: Trust | None) -> ChainReport:
    """Follow the chain of one journal partition to its end or to its first fault."""
    # Whatever is appended from now on is the next check's, so that all reports of one check agree on an end.
    end = log.bounds(place).end
    report = ChainReport(*place, end=end)
    journal = JournalReader(place, trust=trust)
    before = journal.position
    try:
        for record, batch in journal.read(log, end=end, reads_ahead=True):
            report.records += 1
            if batch is not None:
                report.batches += 1
                report.decisions += len(batch.decisions)
                report.reported_inputs.append((record.offset, batch.position))
            else:
                # What is passed over leaves the position as it was, and a claim moves it.
                report.claims += journal.position != before
            if journal.strangers > report.strangers and report.first_stranger is None:
                report.first_stranger = record.offset
            before = journal.position
            report.positions.append((record.offset, before))
            report.zombies, report.strangers, report.seq = journal.zombies, journal.strangers, before.seq
    except JournalBroken as error:
        report.offset, report.fault = error.place.offset, error.what
    return report
