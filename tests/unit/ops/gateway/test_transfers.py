"""Uploads that are cut, interrupted, restarted and damaged: what has come stays, and only whole bodies are appended."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from client_agent.links.http import HttpLink
from client_agent.links.requests import GatewayOptions
from schemas.http.device_protocol import read_address, write_digest
from schemas.identifiers import CHUNK_BYTES
from schemas.policy import Compression
from tests.worlds.builders import KEY
from tests.worlds.device_world import World, policy
from tests.worlds.gateway.asking import Behind, body_of, carrying, opened, wait_until
from tests.worlds.gateway.cutting import cutting
from tests.worlds.gateway.raw import connected
from tests.worlds.gateway.served import served

PARAMETERS = 4_000_000
DATA = random.Random(4).randbytes(4 * PARAMETERS)
CUTS = 20


def wide() -> World:
    """A world whose updates have 16 MB."""
    return World(policy(compression=Compression(codec="float32")), parameters=PARAMETERS)


@pytest.fixture(scope="module")
def world() -> World:
    """One for all tests: what each uploads is under a lease of its own."""
    return wide()


@pytest.fixture(scope="module")
def behind(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A gateway before it."""
    with opened(tmp_path_factory.mktemp("gateway"), world) as found:
        yield found


def created(behind: Behind, sealed: bytes, data: bytes = DATA) -> str:
    """Where a new upload of these bytes is."""
    digest = write_digest(hashlib.sha256(data).digest())
    headers = carrying(sealed, Upload_Complete="?0", Upload_Length=str(len(data)), Repr_Digest=digest)
    told = behind.ask("POST", "/v1/uploads", b"", headers)
    assert told.status == 201, told.data
    return told.headers["location"]


def partial(sealed: bytes, offset: int, *, last: bool = False, **more: str) -> dict[str, str]:
    """Headers of a request that goes on."""
    return carrying(
        sealed,
        Content_Type="application/partial-upload",
        Upload_Offset=str(offset),
        Upload_Complete="?1" if last else "?0",
        **more,
    )


def offset_of(behind: Behind, sealed: bytes, place: str) -> int:
    """How much has come."""
    return int(behind.ask("HEAD", place, b"", carrying(sealed)).headers["upload-offset"])


def test_an_upload_that_is_cut_twenty_times_repeats_little(behind: Behind) -> None:
    """Guarantee: a cut costs at most a chunk: what the gateway had received is never sent again."""
    sealed = behind.lease(20)
    body = body_of(behind, sealed, DATA)
    chance = random.Random(7)
    with cutting(behind.url, [chance.randint(100_000, 900_000) for _ in range(CUTS)]) as (url, cutter):
        link = HttpLink(GatewayOptions(url=url), KEY.public_key, [behind.phone.device])
        try:
            link.store(body)
            link.read_answers(60)
            [stored] = link.collect_stored()
        finally:
            link.close()
    assert cutter.done == CUTS
    assert stored.address.sha256 == hashlib.sha256(DATA).digest()
    # The headers of a request are a few kB.
    repeated = cutter.sent_bytes - len(DATA)
    assert repeated <= CUTS * CHUNK_BYTES + CUTS * 3 * 4_096


def test_what_came_before_a_cut_stays(behind: Behind) -> None:
    """Guarantee: the bytes of a request that ends in its midst are kept, and told."""
    sealed = behind.lease(21)
    place = created(behind, sealed)
    with connected(behind.url) as connection:
        connection.begin("PATCH", place, behind.sign("PATCH", place, partial(sealed, 0, Content_Length="1000000")))
        connection.send(DATA[:300_000])
        connection.cut()
    # By the file: to ask would end a request that is still being read.
    part = behind.folder / "gateway" / "uploads" / f"{place.rpartition('/')[2]}.part"
    wait_until(lambda: part.stat().st_size == 300_000)
    assert offset_of(behind, sealed, place) == 300_000


def test_a_later_request_ends_the_one_before(behind: Behind) -> None:
    """Guarantee: a connection that only seems to live holds nothing up: HEAD tells an offset that then stands."""
    sealed = behind.lease(22)
    place = created(behind, sealed)
    with connected(behind.url) as silent:
        silent.begin("PATCH", place, behind.sign("PATCH", place, partial(sealed, 0, Content_Length="1000000")))
        silent.send(DATA[:200_000])
        part = behind.folder / "gateway" / "uploads" / f"{place.rpartition('/')[2]}.part"
        wait_until(lambda: part.stat().st_size == 200_000)
        assert offset_of(behind, sealed, place) == 200_000
        assert "400" in silent.read_head().splitlines()[0]
    assert behind.ask("PATCH", place, DATA[200_000:300_000], partial(sealed, 200_000)).status == 204
    assert offset_of(behind, sealed, place) == 300_000


def test_more_than_was_announced_is_refused(behind: Behind) -> None:
    """Guarantee: nobody fills the disk beyond what an upload said at its beginning, whatever its requests say."""
    sealed = behind.lease(23)
    place = created(behind, sealed, b"0123456789")
    assert behind.ask("PATCH", place, bytes(11), partial(sealed, 0)).status == 413
    with connected(behind.url) as connection:
        connection.begin("PATCH", place, behind.sign("PATCH", place, partial(sealed, 0, Transfer_Encoding="chunked")))
        connection.send(b"b\r\n" + bytes(11) + b"\r\n0\r\n\r\n")
        assert "413" in connection.read_head().splitlines()[0]
    assert behind.ask("HEAD", place, b"", carrying(sealed)).status == 404
    assert not list((behind.folder / "gateway" / "uploads").glob(f"{place.rpartition('/')[2]}*"))


def test_an_upload_is_only_its_own_device_s(behind: Behind) -> None:
    """Guarantee: under another lease an upload can neither be read nor written, and one of no name is unknown."""
    place = created(behind, behind.lease(24))
    other = behind.lease(25)
    assert behind.ask("HEAD", place, b"", carrying(other)).status == 403
    assert behind.ask("PATCH", place, b"x", partial(other, 0)).problem["code"] == "lease_differs"
    assert behind.ask("DELETE", place, b"", carrying(other)).status == 403
    assert behind.ask("HEAD", "/v1/uploads/nobody", b"", carrying(other)).status == 404
    assert behind.ask("DELETE", place, b"", carrying(behind.lease(24))).status == 204
    assert behind.ask("HEAD", place, b"", carrying(behind.lease(24))).status == 404


def test_an_upload_outlives_its_gateway(tmp_path: Path) -> None:
    """Guarantee: another process on the same disk goes on where the one before was, digest and address included."""
    data = DATA[: CHUNK_BYTES + 5]
    with opened(tmp_path, wide()) as behind:
        sealed = behind.lease()
        place = created(behind, sealed, data)
        assert behind.ask("PATCH", place, data[:100_000], partial(sealed, 0)).status == 204
    with served(behind.world.log, tmp_path / "gateway") as url:
        behind.url = url
        assert offset_of(behind, sealed, place) == 100_000
        told = behind.ask("PATCH", place, data[100_000:], partial(sealed, 100_000, last=True))
        assert read_address(told.data).sha256 == hashlib.sha256(data).digest()
    with served(behind.world.log, tmp_path / "gateway") as url:
        behind.url = url
        assert behind.ask("GET", place, b"", carrying(sealed)).data == told.data
    stored = [record.value or b"" for record in behind.world.records("bodies")]
    assert b"".join(stored) == data


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Upload-Complete": "yes"}, 400),
        ({"Upload-Offset": "-1"}, 400),
        ({"Upload-Offset": "1_0"}, 400),
        ({"Upload-Offset": "9" * 20}, 400),
        ({"Content-Type": "application/octet-stream"}, 400),
    ],
)
def test_headers_that_say_nothing_are_refused(behind: Behind, changes: dict[str, str], status: int) -> None:
    """Guarantee: only the forms of the draft are read, and what is not one changes nothing."""
    sealed = behind.lease(26)
    place = created(behind, sealed)
    assert behind.ask("PATCH", place, b"x", partial(sealed, 0) | changes).status == status
    assert offset_of(behind, sealed, place) == 0
