"""Fetches the body that a BodyRef names.

A BodyReader reads its partition ahead, in order, into a buffer that is bounded in bytes; what is not in there it seeks
with a second reader, which leaves the first where it is. Refs come from devices: every bound that one can break is
checked, and costs no more than its size.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from schemas.identifiers import CHUNK_BYTES, BodyRef
from streams.log import (
    Bounds,
    EventLog,
    LogUnavailable,
    OffsetLost,
    Reader,
    ReaderStalled,
    Record,
    Standstill,
    TopicPartition,
)
from streams.retry import retry_until_available

BUDGET_BYTES = 64 * 2**20
# Half of it takes what one poll brings; with less a reader throws that away, and seeks.
BUDGET_BYTES_MIN = 16 * 2**20
SIZE_MAX = 2**30
POLL_S = 0.2
SHORT_POLL_S = 0.02  # for what has most likely been fetched already
# Give up after this many empty short polls; a single one can be a race with the append.
EMPTY_POLLS_MAX = 2
# One device can name any offset: only when several refs in a row were elsewhere has the order really moved there.
MISSES_BEFORE_MOVING = 4
# With a time limit: a broker that is silent for as long is away, and its caller has other things to do meanwhile.
SILENCE_S = 10.0
# Within this many offsets it is quicker to read on than to seek.
GAP_MAX = 16

ALTERED = frozenset({"another size", "other bytes"})  # reasons: something is there, and it is not what was stored
DELETED = "below the beginning"  # the reason for what may have been there once


@dataclass(frozen=True, slots=True)
class Absent:
    """The fact that a body is not where its ref says, and why; never that a broker did not answer."""

    reason: str

    def __str__(self) -> str:
        return self.reason


_Place = tuple[int, int]  # a chunk's offset, and the number of its message in the record there


@dataclass(slots=True)
class ChunkBuffer:
    """Chunks that were read and not fetched yet, by place, at most `budget_bytes` of them: the oldest go first."""

    budget_bytes: int
    chunks: dict[_Place, bytes] = field(default_factory=dict)
    size_bytes: int = 0

    def add(self, place: _Place, chunk: bytes) -> None:
        """Keep a chunk."""
        self.drop([place])
        self.chunks[place] = chunk
        self.size_bytes += len(chunk)
        while self.size_bytes > self.budget_bytes:
            self.drop([next(iter(self.chunks))])

    def drop(self, places: Iterable[_Place]) -> None:
        """Keep these no longer."""
        for place in places:
            self.size_bytes -= len(self.chunks.pop(place, b""))

    def find_missing(self, ref: BodyRef) -> list[int]:
        """The offsets of a body that are not here."""
        return [offset for offset in ref.offsets if (offset, ref.message) not in self.chunks]

    def clear(self) -> None:
        """Drop all."""
        self.chunks.clear()
        self.size_bytes = 0


class BodyReader:
    """Fetches the bodies of one partition, in about the order of their offsets; for one thread.

    `unwrap` takes the chunks out of a record's value, one a message, where the topic's records are more than chunks.
    `bulk`: much is going to be read, so that a reader that costs more to start and less to run is the right one.
    """

    def __init__(
        self,
        log: EventLog,
        topic: str,
        partition: int,
        *,
        budget_bytes: int = BUDGET_BYTES,
        unwrap: Callable[[bytes], Sequence[bytes]] = lambda value: (value,),
        bulk: bool = False,
    ) -> None:
        self._log, self._at = log, TopicPartition(topic, partition)
        self.unwrap, self._is_bulk = unwrap, bulk
        self._buffer = ChunkBuffer(budget_bytes)
        self._bounds = Bounds(0, 0)
        self._misses = 0
        self._until_s: float | None = None
        self._heard_s = 0.0
        self._ahead: Reader | None = None
        self._seeker: Reader | None = None

    def fetch(self, ref: BodyRef, *, size_max: int = SIZE_MAX, timeout_s: float | None = None) -> bytes | Absent:
        """The bytes that `ref` names, checked against its size and digest; waits while no broker answers.

        Absent is a fact: an offset below the beginning, past the end of what was written, or with other bytes; or a
        ref that cannot be one, or one of more than `size_max` bytes. With `timeout_s` it waits for no broker, and for
        nothing beyond that time: it then raises LogUnavailable.
        """
        if not ref.is_well_formed() or ref.size > size_max:
            return Absent("malformed ref")
        if (ref.topic, ref.partition) != self._at:
            return Absent("another partition")
        self._heard_s = time.monotonic()
        self._until_s = None if timeout_s is None else self._heard_s + timeout_s
        while True:
            try:
                if timeout_s is not None:
                    return self._find(ref)
                return retry_until_available(lambda: self._find(ref), every_s=POLL_S)
            except OffsetLost:
                # Records were deleted where a reader stood: start again by asking what the log holds.
                self._close_readers()

    def close(self) -> None:
        """Release both readers and what was read ahead."""
        self._close_readers()
        self._buffer.clear()

    def _find(self, ref: BodyRef) -> bytes | Absent:
        missing = self._buffer.find_missing(ref)
        if missing and self._ahead is not None and self._lies_ahead(self._ahead, missing):
            missing = self._read_on_briefly(self._ahead, ref, last=missing[-1])
        if not missing:
            self._misses = 0
        else:
            absent = self._compare_with_bounds(missing)
            if absent is not None:
                return absent
            missing = self._read_ahead(ref, missing)
        sought = self._seek(missing) if missing else {}
        places = [(offset, ref.message) for offset in ref.offsets]
        return self._join(ref, [self._buffer.chunks.get(place, sought.get(place)) for place in places])

    def _read_on_briefly(self, reader: Reader, ref: BodyRef, *, last: int) -> list[int]:
        """Read on for a moment, without asking first what the log holds, which takes three requests a body."""
        empty_polls = 0
        while reader.position(self._at) <= last and empty_polls < EMPTY_POLLS_MAX:
            records = reader.poll(SHORT_POLL_S)
            self._keep(reader, records, until=last)
            empty_polls += not records
        return self._buffer.find_missing(ref)

    def _compare_with_bounds(self, missing: Sequence[int]) -> Absent | None:
        """Why the partition, as it is now, cannot hold these offsets; asked only when the last answer leaves doubt."""
        is_behind = self._ahead is None or missing[0] < self._ahead.position(self._at)
        if is_behind or missing[-1] >= self._bounds.end:
            self._bounds = self._log.bounds(self._at)
        if missing[0] < self._bounds.beginning:
            return Absent(DELETED)
        if missing[-1] < self._bounds.end:
            return None
        # Behind somebody's open transaction a body is there and cannot be read yet: it is waited for, or whoever may
        # open one could make every body absent that comes after it.
        return Absent("past the end") if missing[-1] >= self._log.find_written_end(self._at) else None

    def _read_ahead(self, ref: BodyRef, missing: list[int]) -> list[int]:
        """Read on, in order, where that finds the body; return what is missing still."""
        if ref.size > self._buffer.budget_bytes:
            return missing
        if self._ahead is None:
            self._ahead = (self._log.bulk_reader if self._is_bulk else self._log.reader)({self._at: missing[0]})
        if not self._lies_ahead(self._ahead, missing):
            self._misses += 1
            if self._misses < MISSES_BEFORE_MOVING:
                return missing
            self._ahead.seek(self._at, missing[0])
        self._misses = 0
        standstill = Standstill(self._log, self._at, missing[-1] + 1)
        while (position := self._ahead.position(self._at)) <= missing[-1]:
            self._check(standstill, position)
            self._keep(self._ahead, self._poll(self._ahead), until=missing[-1])
        return self._buffer.find_missing(ref)

    def _lies_ahead(self, reader: Reader, missing: Sequence[int]) -> bool:
        position = reader.position(self._at)
        window = max(GAP_MAX, self._buffer.budget_bytes // CHUNK_BYTES)
        return position <= missing[0] and missing[-1] < position + window

    def _keep(self, reader: Reader, records: Sequence[Record], *, until: int) -> None:
        """Buffer these chunks; go back to the first that would take more than half of the budget behind `until`.

        The other half is for what was read before it and is fetched later.
        """
        bytes_behind = 0
        for record in records:
            chunks = self.unwrap(record.value or b"")
            bytes_behind += sum(map(len, chunks)) if record.offset > until else 0
            if bytes_behind > self._buffer.budget_bytes // 2:
                reader.seek(self._at, record.offset)
                return
            for number, chunk in enumerate(chunks):
                # An empty one is no body, and 64 of them would take memory that nobody counts.
                if chunk or not number:
                    self._buffer.add((record.offset, number), chunk)

    def _seek(self, offsets: Sequence[int]) -> dict[_Place, bytes]:
        """Read exactly these offsets with the second reader; one that holds no record is left out."""
        if self._seeker is None:
            self._seeker = self._log.reader({self._at: offsets[0]})
        reader, wanted, found = self._seeker, set(offsets), dict[_Place, bytes]()
        reader.seek(self._at, offsets[0])
        for offset in offsets:
            if offset > reader.position(self._at) + GAP_MAX:
                reader.seek(self._at, offset)
            standstill = Standstill(self._log, self._at, offset + 1)
            while (position := reader.position(self._at)) <= offset:
                self._check(standstill, position)
                for record in self._poll(reader):
                    if record.offset in wanted:
                        chunks = self.unwrap(record.value or b"")
                        found |= {(record.offset, number): chunk for number, chunk in enumerate(chunks)}
        return found

    def _poll(self, reader: Reader) -> list[Record]:
        """The next records; for a caller with a time limit not beyond it, nor for as long as nothing comes at all."""
        records, now_s = reader.poll(POLL_S), time.monotonic()
        self._heard_s = now_s if records else self._heard_s
        if self._until_s is not None and now_s >= min(self._until_s, self._heard_s + SILENCE_S):
            raise LogUnavailable(f"a body of {self._at} did not arrive in time")
        return records

    def _check(self, standstill: Standstill, position: int) -> None:
        try:
            standstill.check(position)
        except ReaderStalled:
            # The next attempt has readers with connections of their own.
            self._close_readers()
            raise

    def _join(self, ref: BodyRef, chunks: Sequence[bytes | None]) -> bytes | Absent:
        present = [chunk for chunk in chunks if chunk is not None]
        if len(present) < len(chunks):
            return Absent("no record at an offset")
        if any(len(chunk) != CHUNK_BYTES for chunk in present[:-1]) or sum(map(len, present)) != ref.size:
            return Absent("another size")
        data = b"".join(present)
        if hashlib.sha256(data).digest() != ref.sha256:
            return Absent("other bytes")
        # Only now: a forged ref must not throw away what an honest one will ask for.
        self._buffer.drop((offset, ref.message) for offset in ref.offsets)
        return data

    def _close_readers(self) -> None:
        for reader in (self._ahead, self._seeker):
            if reader is not None:
                reader.close()
        self._ahead = self._seeker = None
        self._bounds = Bounds(0, 0)
