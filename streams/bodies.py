"""Bodies: the bytes of updates, models and sums, as chunks beside the events that name them.

Kafka has no index, so that a BodyRef names the offset of every chunk. `BodyReader` reads a partition ahead, in order,
into a buffer that is bounded in bytes; what is not in there it seeks with a second reader, and the order goes on
undisturbed. Refs come from devices: every bound that one can break is checked, and costs no more than its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog

from schemas.identifiers import CHUNK_BYTES, BodyRef
from streams.log import Bounds, Draft, EventLog, OffsetLost, Reader, Record, TopicPartition
from streams.retry import retry_until_available

BUDGET_BYTES = 64 * 2**20
BUDGET_BYTES_MIN = 16 * 2**20  # half of it takes what one poll brings; with less a reader throws that away, and seeks
SIZE_MAX = 2**30
POLL_S = 0.2
WAIT_S = 0.02  # for what has most likely been fetched already
EMPTY_MAX = 2  # polls without a record after which it is not awaited any more: one may have met the end before it came
ALTERED = frozenset({"another size", "other bytes"})  # something is there, and it is not what was stored
DELETED = "below the beginning"  # of the partition: it may have been there
# One device can name any offset: only when several refs in a row were elsewhere has the order really moved there.
MISSES_BEFORE_MOVING = 4
# Within this many offsets it is quicker to read on than to seek.
GAP_MAX = 16

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Absent:
    """The fact that a body is not where its ref says, and why; never that a broker did not answer."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A body to be stored; its id tells its chunks from those of all others. Raises ValueError for an empty one."""

    at: TopicPartition
    upload_id: str
    data: bytes
    codec: str

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("an empty body")

    def chunks(self) -> list[Draft]:
        """Its bytes, with the keys `upload_id/0`, `upload_id/1` and so on."""
        at, data = self.at._asdict(), self.data
        return [
            Draft(**at, key=f"{self.upload_id}/{number}".encode(), value=data[first : first + CHUNK_BYTES])
            for number, first in enumerate(range(0, len(data), CHUNK_BYTES))
        ]

    def ref(self, offsets: Sequence[int]) -> BodyRef:
        """Its address, once its chunks stand at these offsets."""
        digest = hashlib.sha256(self.data).digest()
        return BodyRef(
            **self.at._asdict(), offsets=tuple(offsets), sha256=digest, size=len(self.data), codec=self.codec
        )


def store_all(log: EventLog, uploads: Sequence[Upload]) -> list[BodyRef]:
    """Append the chunks of all of them, durable when this returns, together: a request costs more than its bytes.

    Raises LogUnavailable; storing again is safe and leaves the chunks of the first attempt to clean-up.
    """
    chunks = [upload.chunks() for upload in uploads]
    rest = iter(log.append([draft for each in chunks for draft in each]) if chunks else ())
    return [upload.ref(list(islice(rest, len(each)))) for upload, each in zip(uploads, chunks, strict=True)]


def store(log: EventLog, at: TopicPartition, *, data: bytes, upload_id: str, codec: str) -> BodyRef:
    """Store one body; see `store_all`."""
    [ref] = store_all(log, [Upload(at=at, upload_id=upload_id, data=data, codec=codec)])
    return ref


def discard(log: EventLog, refs: Sequence[BodyRef]) -> None:
    """Write the tombstones of bodies in one partition of a compacted topic; what is gone already is passed over."""
    if not refs:
        return
    at = TopicPartition(refs[0].topic, refs[0].partition)
    offsets = {offset for ref in refs for offset in ref.offsets}
    reader = log.reader({at: min(offsets)})
    keys: list[bytes] = []
    try:
        for offset in sorted(offsets):
            if reader.position(at) <= offset:
                reader.seek(at, offset)
            while reader.position(at) <= offset:
                keys += [record.key for record in reader.poll(POLL_S) if record.offset in offsets and record.key]
    except OffsetLost:
        _log.warning("bodies_gone_before_tombstones", topic=at.topic, partition=at.partition)
    finally:
        reader.close()
    log.append([Draft(**at._asdict(), key=key, value=None) for key in keys])


@dataclass(slots=True)
class BodyReader:
    """Fetches the bodies of one partition, in about the order of their offsets; for one thread.

    It holds at most `budget_bytes` of chunks that nobody has fetched yet, and drops the oldest first. `unwrap` takes
    the chunk out of a record's value, where the records of the topic are more than chunks. `bulk`: much is going to be
    read, so that a reader that costs more to start and less to run is the right one.
    """

    log: EventLog
    topic: str
    partition: int
    budget_bytes: int = BUDGET_BYTES
    unwrap: Callable[[bytes], bytes] = bytes
    bulk: bool = False
    _chunks: dict[int, bytes] = field(default_factory=dict, init=False)
    _held_bytes: int = field(default=0, init=False)
    _bounds: Bounds = field(default=Bounds(0, 0), init=False)
    _misses: int = field(default=0, init=False)
    _ahead: Reader | None = field(default=None, init=False)
    _seeker: Reader | None = field(default=None, init=False)

    def fetch(self, ref: BodyRef, *, size_max: int = SIZE_MAX) -> bytes | Absent:
        """The bytes that `ref` names, checked against its size and digest; waits while no broker answers.

        Absent is a fact: an offset below the beginning, past the readable end, or with other bytes; or a ref that
        cannot be one, or one of more than `size_max` bytes.
        """
        if not ref.is_well_formed() or ref.size > size_max:
            return Absent("malformed ref")
        if (ref.topic, ref.partition) != self._at:
            return Absent("another partition")
        while True:
            try:
                return retry_until_available(lambda: self._found(ref), every_s=POLL_S)
            except OffsetLost:
                # Deleted where a reader stood: both start anew, after the question what is there.
                self._let_go()

    def close(self) -> None:
        """Release both readers and what was read ahead."""
        self._let_go()
        self._chunks.clear()
        self._held_bytes = 0

    @property
    def _at(self) -> TopicPartition:
        return TopicPartition(self.topic, self.partition)

    def _found(self, ref: BodyRef) -> bytes | Absent:
        missing = self._missing(ref)
        if missing and self._ahead is not None and self._lies_ahead(self._ahead, missing):
            missing = self._awaited(self._ahead, ref, last=missing[-1])
        if not missing:
            self._misses = 0
        else:
            outside = self._outside(missing)
            if outside is not None:
                return outside
            missing = self._read_ahead(ref, missing)
        sought = self._sought(missing) if missing else {}
        chunks = [self._chunks.get(offset, sought.get(offset)) for offset in ref.offsets]
        return self._checked(ref, chunks)

    def _awaited(self, reader: Reader, ref: BodyRef, *, last: int) -> list[int]:
        """Read on for a moment, without asking the log first what it holds: that takes three requests a body."""
        empty = 0
        while reader.position(self._at) <= last and empty < EMPTY_MAX:
            records = reader.poll(WAIT_S)
            self._keep(reader, records, wanted=last)
            empty += not records
        return self._missing(ref)

    def _missing(self, ref: BodyRef) -> list[int]:
        return [offset for offset in ref.offsets if offset not in self._chunks]

    def _outside(self, missing: Sequence[int]) -> Absent | None:
        """Whether the partition, as it is now, cannot hold these offsets; asks only when what is known leaves doubt."""
        behind = self._ahead is None or missing[0] < self._ahead.position(self._at)
        if behind or missing[-1] >= self._bounds.end:
            self._bounds = self.log.bounds(self._at)
        if missing[0] < self._bounds.beginning:
            return Absent(DELETED)
        return Absent("past the end") if missing[-1] >= self._bounds.end else None

    def _read_ahead(self, ref: BodyRef, missing: list[int]) -> list[int]:
        """Read on, in order, where that finds the body; return what is missing still."""
        if ref.size > self.budget_bytes:
            return missing
        reader = self._reader_ahead(missing[0])
        if not self._lies_ahead(reader, missing):
            self._misses += 1
            if self._misses < MISSES_BEFORE_MOVING:
                return missing
            reader.seek(self._at, missing[0])
        self._misses = 0
        while reader.position(self._at) <= missing[-1]:
            self._keep(reader, reader.poll(POLL_S), wanted=missing[-1])
        return self._missing(ref)

    def _lies_ahead(self, reader: Reader, missing: Sequence[int]) -> bool:
        position = reader.position(self._at)
        window = max(GAP_MAX, self.budget_bytes // CHUNK_BYTES)
        return position <= missing[0] and missing[-1] < position + window

    def _reader_ahead(self, start: int) -> Reader:
        if self._ahead is None:
            self._ahead = (self.log.bulk_reader if self.bulk else self.log.reader)({self._at: start})
        return self._ahead

    def _keep(self, reader: Reader, records: Sequence[Record], *, wanted: int) -> None:
        """Hold these chunks: half of the budget for what comes after `wanted`, the rest for what was passed over."""
        after = 0
        for record in records:
            chunk = self.unwrap(record.value or b"")
            after += len(chunk) if record.offset > wanted else 0
            if after > self.budget_bytes // 2:
                reader.seek(self._at, record.offset)
                return
            self._drop([record.offset])
            self._chunks[record.offset] = chunk
            self._held_bytes += len(chunk)
            while self._held_bytes > self.budget_bytes:
                self._drop([next(iter(self._chunks))])

    def _drop(self, offsets: Iterable[int]) -> None:
        for offset in offsets:
            self._held_bytes -= len(self._chunks.pop(offset, b""))

    def _sought(self, offsets: Sequence[int]) -> dict[int, bytes]:
        """Read exactly these offsets with the second reader; one that holds no record is left out."""
        if self._seeker is None:
            self._seeker = self.log.reader({self._at: offsets[0]})
        reader, wanted, found = self._seeker, set(offsets), dict[int, bytes]()
        reader.seek(self._at, offsets[0])
        for offset in offsets:
            if offset > reader.position(self._at) + GAP_MAX:
                reader.seek(self._at, offset)
            while reader.position(self._at) <= offset:
                found |= {r.offset: self.unwrap(r.value or b"") for r in reader.poll(POLL_S) if r.offset in wanted}
        return found

    def _checked(self, ref: BodyRef, chunks: Sequence[bytes | None]) -> bytes | Absent:
        held = [chunk for chunk in chunks if chunk is not None]
        if len(held) < len(chunks):
            return Absent("no record at an offset")
        if any(len(chunk) != CHUNK_BYTES for chunk in held[:-1]) or sum(map(len, held)) != ref.size:
            return Absent("another size")
        data = b"".join(held)
        if hashlib.sha256(data).digest() != ref.sha256:
            return Absent("other bytes")
        # Only now: a forged ref must not throw away what an honest one will ask for.
        self._drop(ref.offsets)
        return data

    def _let_go(self) -> None:
        for reader in (self._ahead, self._seeker):
            if reader is not None:
                reader.close()
        self._ahead = self._seeker = None
        self._bounds = Bounds(0, 0)
