"""Bodies are stored in chunks that their address names, and deleted by the keys of these chunks."""

from __future__ import annotations

import pytest

from schemas.identifiers import CHUNK_BYTES
from schemas.topics import MODELS
from streams.bodies import Upload, discard, store, store_all
from streams.log import TopicPartition
from streams.memory import MemoryLog

AT = TopicPartition(MODELS.name, 0)
LARGE = b"a" * CHUNK_BYTES + b"b" * CHUNK_BYTES + b"c"


@pytest.fixture
def log() -> MemoryLog:
    """An empty log."""
    return MemoryLog([MODELS])


def rows(log: MemoryLog) -> list[tuple[bytes | None, bytes | None]]:
    """Key and value of every record."""
    return [(record.key, record.value) for record in log.reader({AT: 0}).poll(0)]


def test_an_address_names_every_chunk(log: MemoryLog) -> None:
    """A ref holds the offset of each chunk, and the chunks have the upload's id and their number as keys."""
    store(log, AT, data=b"x", upload_id="before", codec="raw")
    ref = store(log, AT, data=LARGE, upload_id="id", codec="raw")
    assert (ref.offsets, ref.size, ref.is_well_formed()) == ((1, 2, 3), len(LARGE), True)
    chunks = [LARGE[:CHUNK_BYTES], LARGE[CHUNK_BYTES:-1], b"c"]
    assert rows(log)[1:] == [(f"id/{number}".encode(), chunk) for number, chunk in enumerate(chunks)]


def test_bodies_that_are_stored_together_have_addresses_of_their_own(log: MemoryLog) -> None:
    """One append for all of them, and each ref names its own chunks."""
    uploads = [Upload(at=AT, upload_id=name, data=name.encode(), codec="raw") for name in ("one", "two")]
    assert [ref.offsets for ref in store_all(log, uploads)] == [(0,), (1,)]
    assert store_all(log, []) == []


def test_an_empty_body_is_refused() -> None:
    """It would have an address without offsets, which means another thing."""
    with pytest.raises(ValueError, match="empty"):
        Upload(at=AT, upload_id="id", data=b"", codec="raw")


def test_a_discarded_body_leaves_a_tombstone_for_each_chunk(log: MemoryLog) -> None:
    """Tombstones have the keys of its chunks and of no others."""
    store(log, AT, data=b"x", upload_id="kept", codec="raw")
    ref = store(log, AT, data=LARGE, upload_id="id", codec="raw")
    discard(log, [ref])
    assert rows(log)[4:] == [(b"id/0", None), (b"id/1", None), (b"id/2", None)]


def test_what_is_gone_already_needs_no_tombstone(log: MemoryLog) -> None:
    """A body whose records were deleted stops no clean-up."""
    ref = store(log, AT, data=b"x", upload_id="id", codec="raw")
    log.delete_records(AT, 1)
    discard(log, [ref])
    discard(log, [])
    assert log.bounds(AT) == (1, 1)
