"""Stores bodies in chunks, and writes their tombstones.

A chunk's key is `upload_id/0`, `upload_id/1` and so on. In a compacted topic a body stored again under one id takes the
place of the one before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from schemas.identifiers import CHUNK_BYTES, BodyRef
from streams.log import Draft, EventLog, OffsetLost, TopicPartition
from streams.notes import Notes

POLL_S = 0.2

logger = Notes(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A body to be stored; its id tells its chunks from those of all others. Raises ValueError for an empty one.

    `known_sha256`: its digest, where somebody has it already.
    """

    at: TopicPartition
    upload_id: str
    data: bytes
    codec: str
    known_sha256: bytes | None = None

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("an empty body")

    def chunks(self) -> list[Draft]:
        """Its bytes as records."""
        at, data = self.at._asdict(), self.data
        return [
            Draft(**at, key=f"{self.upload_id}/{number}".encode(), value=data[first : first + CHUNK_BYTES])
            for number, first in enumerate(range(0, len(data), CHUNK_BYTES))
        ]

    def ref(self, offsets: Sequence[int]) -> BodyRef:
        """Its address, once its chunks stand at these offsets."""
        # Over the whole body and not per chunk: a reader has to have all of them anyway.
        digest = self.known_sha256 or hashlib.sha256(self.data).digest()
        return BodyRef(
            **self.at._asdict(), offsets=tuple(offsets), sha256=digest, size=len(self.data), codec=self.codec
        )


def store_all(log: EventLog, uploads: Sequence[Upload]) -> list[BodyRef]:
    """Append the chunks of all of them, durable when this returns, together: a request costs more than its bytes.

    Raises LogUnavailable; storing again is safe and leaves the chunks of the first attempt to clean-up.
    """
    chunks = [upload.chunks() for upload in uploads]
    # The offsets come in the order of the drafts, so each upload takes as many as it has chunks.
    offsets = iter(log.append([draft for each in chunks for draft in each]) if chunks else ())
    return [upload.ref(list(islice(offsets, len(each)))) for upload, each in zip(uploads, chunks, strict=True)]


def store(log: EventLog, at: TopicPartition, *, data: bytes, upload_id: str, codec: str) -> BodyRef:
    """Store one body; see `store_all`."""
    [ref] = store_all(log, [Upload(at=at, upload_id=upload_id, data=data, codec=codec)])
    return ref


def discard(log: EventLog, refs: Sequence[BodyRef]) -> None:
    """Write the tombstones of bodies in one partition of a compacted topic; those that are gone already are skipped."""
    # Nothing to read, and no partition to read it from.
    if not refs:
        return
    at = TopicPartition(refs[0].topic, refs[0].partition)
    offsets = {offset for ref in refs for offset in ref.offsets}
    reader = log.reader({at: min(offsets)})
    keys: list[bytes] = []
    try:
        # A tombstone needs the chunk's key, which the ref does not name: it is read from the chunk.
        for offset in sorted(offsets):
            if reader.position(at) <= offset:
                reader.seek(at, offset)
            while reader.position(at) <= offset:
                keys += [record.key for record in reader.poll(POLL_S) if record.offset in offsets and record.key]
    except OffsetLost:
        logger.warning("bodies_gone_before_tombstones", topic=at.topic, partition=at.partition)
    finally:
        reader.close()
    log.append([Draft(**at._asdict(), key=key, value=None) for key in keys])
