"""Bodies on a gateway's disk: whose room they take, and how many a lease brings into the log."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from ops.gateway import uploads
from schemas.http.device_protocol import write_digest
from tests.worlds.device_world import large
from tests.worlds.gateway.asking import Behind, Told, carrying, opened


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Behind]:
    """A gateway before a world whose updates have bodies."""
    with opened(tmp_path, large()) as found:
        yield found


def stored(behind: Behind, sealed: bytes, data: bytes) -> Told:
    """A whole body in one request."""
    digest = write_digest(hashlib.sha256(data).digest())
    return behind.ask("POST", "/v1/uploads", data, carrying(sealed, Upload_Complete="?1", Repr_Digest=digest))


def test_what_stands_in_the_log_takes_no_room(behind: Behind) -> None:
    """Guarantee: a gateway is as full as it has bodies on its disk, however many it has passed on."""
    with patch.object(uploads, "OPEN_MAX", 2), patch.object(uploads, "FOLDER_BYTES_MAX", 250):
        for number in range(1, 8):
            assert stored(behind, behind.lease(number), bytes([number]) * 100).status == 200
        begun = {"Upload_Complete": "?0", "Upload_Length": "100", "Repr_Digest": write_digest(bytes(32))}
        told = [
            behind.ask("POST", "/v1/uploads", b"", carrying(behind.lease(number), **begun)).status
            for number in range(8, 11)
        ]
        assert told == [201, 201, 503]


def test_a_lease_stores_so_many_bodies(behind: Behind) -> None:
    """Guarantee: no lease fills the log with bodies, whatever becomes of the uploads that brought them."""
    sealed = behind.lease()
    for number in range(uploads.BODIES_PER_LEASE_MAX):
        told = stored(behind, sealed, bytes([number]) * 100)
        assert told.status == 200
        # Where it is asked for again it costs nothing, and to forget it gives nothing back.
        assert stored(behind, sealed, bytes([number]) * 100).data == told.data
        if number % 2:
            assert behind.ask("DELETE", told.headers["location"], b"", carrying(sealed)).status == 204
    assert stored(behind, sealed, b"one more").problem["code"] == "bodies_spent"
    assert len(behind.world.records("bodies")) == uploads.BODIES_PER_LEASE_MAX
    assert stored(behind, behind.lease(2), b"of another lease").status == 200
