"""The newest records of journals, followed along their chains from the first that can be trusted; pure."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ops.doctor.facts import Tail
from schemas.canonical import MalformedError
from schemas.certificates import Trust
from schemas.events import DefectFound, RoundProposed
from schemas.journal import Batch, JournalPosition, WriterClaimed, open_record
from streams.journals import JournalBroken, JournalReader
from streams.log import Record, TopicPartition


def find_claim(records: Sequence[Record]) -> int | None:
    """The offset of the claim before these records under which most of them were written; None where none is needed."""
    first = min((record.offset for record in records), default=0)
    counted = Counter(batch.claim for _, batch in _list_batches(records) if batch.claim < first)
    return max(counted, key=lambda claim: counted[claim], default=None)


def follow_tail(at: TopicPartition, records: Sequence[Record], *, claim: Record | None, trust: Trust | None) -> Tail:
    """Follow the records of a journal partition; `claim` is the record at `find_claim`'s offset."""
    reader = JournalReader(at, trust=trust)
    position: Mapping[str, int] = {}
    defects, is_private = 0, False
    try:
        for record in _begin(reader, records, claim=claim):
            batch = reader.follow(record)
            if batch is not None:
                position = batch.position.offsets
                events = [event for each in batch.decisions for event in each.events]
                defects += sum(isinstance(event, DefectFound) for event in events)
                is_private = is_private or any(
                    isinstance(event, RoundProposed) and event.mechanism is not None for event in events
                )
    except JournalBroken as broken:
        return Tail(at=at, position=position, fault=broken.what, offset=broken.place.offset, defects=defects)
    return Tail(at=at, position=position, strangers=reader.strangers, defects=defects, is_private=is_private)


def _begin(reader: JournalReader, records: Sequence[Record], *, claim: Record | None) -> Sequence[Record]:
    """Put the reader before the first batch under the newest claim that holds; the records from there on.

    What stands before may be a zombie's, and nobody can tell without what stands before that.
    """
    # The newest that holds, and not the newest: anybody may have written what looks like one.
    claims = [record for record in records if isinstance(_open(record), WriterClaimed)]
    for claimed in reversed([*filter(None, [claim]), *claims]):
        found = next(
            ((offset, batch) for offset, batch in _list_batches(records) if batch.claim == claimed.offset), None
        )
        key = _find_key(reader, claimed)
        if found is not None and key is not None:
            offset, batch = found
            reader.position = JournalPosition(claim=batch.claim, seq=batch.seq - 1, head=batch.prev, key=key)
            return [record for record in records if record.offset >= offset]
    return []


def _find_key(reader: JournalReader, claimed: Record) -> bytes | None:
    """The key under which a claim's writer signs; None where it is no claim of the journal's writer."""
    reader.position = JournalPosition()
    with contextlib.suppress(JournalBroken):
        reader.follow(claimed)
        return reader.position.key
    return None


def _list_batches(records: Iterable[Record]) -> list[tuple[int, Batch]]:
    opened = ((record.offset, _open(record)) for record in records)
    return [(offset, found) for offset, found in opened if isinstance(found, Batch)]


def _open(record: Record) -> Batch | WriterClaimed | None:
    try:
        return open_record(record.value or b"")
    except MalformedError:
        return None
