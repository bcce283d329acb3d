"""Connections of strangers: who is slow, holds too many, or stops in the midst, costs a timer and nobody else."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ops.gateway.access import wire
from ops.gateway.access.wire import Seats, StrictHttp
from tests.worlds.gateway.asking import Behind, opened, wait_until
from tests.worlds.gateway.raw import Raw, connected

# Far more than a send buffer and the server's own take in together.
LARGE = 64_000_000


@pytest.fixture
def behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Behind]:
    """A gateway with little patience."""
    monkeypatch.setattr(StrictHttp, "ask_wait_s", 0.5)
    monkeypatch.setattr(StrictHttp, "read_wait_s", 0.5)
    with opened(tmp_path) as found:
        yield found


def is_hung_up(raw: Raw) -> bool:
    """Whether the server ends the connection."""
    try:
        raw.read_all()
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize("said", [b"", b"POST /v1/check-ins HTTP/1.1\r\nHost: he"], ids=["nothing", "half a head"])
def test_a_head_that_does_not_come_ends_the_connection(behind: Behind, said: bytes) -> None:
    """Guarantee (slow-loris): whoever connects and does not ask is hung up on, and others are answered meanwhile."""
    with connected(behind.url) as raw:
        raw.send(said)
        assert behind.ask("GET", "/readyz").status == 200
        assert is_hung_up(raw)


def test_an_answer_that_nobody_reads_ends_the_connection(behind: Behind) -> None:
    """Guarantee: whoever asks for a model and reads nothing of it does not hold its file for ever."""
    ref = behind.world.created.model
    path = f"/v1/models/{ref.sha256.hex()}"
    assert behind.ask("GET", path).status == 200
    # A model of zeros is packed too small to be slow; what stands in the cache under its digest is handed out.
    (behind.folder / "gateway" / "models" / ref.sha256.hex()).write_bytes(bytes(LARGE))
    with connected(behind.url) as raw:
        raw.begin("GET", path, {})
        time.sleep(2.0)
        # What was on its way is read; the rest never comes.
        assert 0 < len(raw.read_until_cut()) < LARGE


def test_a_body_that_stops_is_a_refusal_and_no_fault(behind: Behind) -> None:
    """Guarantee: a wrong Content-Length, a cut and a broken chunk cost the gateway no error of its own."""
    # Not what stands on a stream: a logger keeps the one that it began with.
    with capture_logs() as lines:
        with connected(behind.url) as raw:
            raw.begin("POST", "/v1/check-ins", {"Content-Length": "100"})
            raw.send(b"short")
            raw.cut()
        with connected(behind.url) as raw:
            raw.begin("POST", "/v1/check-ins", {"Transfer-Encoding": "chunked"})
            raw.send(b"not a chunk\r\n")
            assert raw.read_head().startswith("HTTP/1.1 400 ")
        wait_until(lambda: behind.ask("GET", "/readyz").status == 200)
    assert [line["event"] for line in lines] == []


def test_one_address_holds_no_more_than_its_share(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: with all seats of an address taken the next connection is refused, and one that leaves makes room."""
    monkeypatch.setattr(StrictHttp, "seats", Seats(all_max=100, each_max=3))
    monkeypatch.setattr(StrictHttp, "ask_wait_s", 60.0)
    at = urlsplit(behind.url)
    held = [socket.create_connection((at.hostname, at.port), 20) for _ in range(3)]
    try:
        for one in held:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert one.recv(12) == b"HTTP/1.1 200"
        with connected(behind.url) as late:
            assert late.read_until_cut() == b""
        held.pop().close()
        wait_until(lambda: is_served(behind))
    finally:
        for one in held:
            one.close()


def is_served(behind: Behind) -> bool:
    """Whether one more connection is answered."""
    try:
        return behind.ask("GET", "/healthz").status == 200
    except OSError:
        return False


@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_seats_are_never_more_than_there_are(all_max: int, each_max: int, story: list[tuple[str, bool]]) -> None:
    """Law: neither bound is passed, whoever comes and goes, and who holds nothing leaves nothing behind."""
    seats, held = Seats(all_max, each_max), Counter[str]()
    for address, comes in story:
        if comes:
            is_free = held.total() < all_max and held[address] < each_max
            assert seats.take(address) == is_free
            held[address] += is_free
        elif held[address]:
            seats.leave(address)
            held[address] -= 1
    assert seats._taken == +held


def test_files_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: as many connections as the system allows, of which an address without a proxy has a share."""
    asked = []
    monkeypatch.setattr(wire.resource, "getrlimit", lambda _: (1_024, 4_096))
    monkeypatch.setattr(wire.resource, "setrlimit", lambda _, limits: asked.append(limits))
    near, far = wire.count_seats(behind_proxy=False), wire.count_seats(behind_proxy=True)
    assert asked == [(4_096, 4_096)] * 2
    assert far.each_max == far.all_max == near.all_max == 4_096 - wire.OWN_FILES
    assert near.each_max * wire.SHARES == near.all_max
