"""Requests that try to be two, or too much: refused by their head, with a reason, and nothing behind it is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.gateway.access.heads import BYTES_MAX, HEADERS_MAX, ONCE, require_head
from ops.gateway.refusals import Refusal
from tests.worlds.gateway.asking import Behind, opened
from tests.worlds.gateway.raw import connected

HOST = "Host: here\r\n"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """One gateway for all: none of these may change anything."""
    with opened(tmp_path_factory.mktemp("gateway")) as found:
        yield found


def ask(behind: Behind, request: str) -> str:
    """What these very bytes are answered, until the connection ends."""
    with connected(behind.url) as raw:
        raw.send(request.encode("latin-1"))
        return raw.read_head()


def told(answer: str) -> tuple[int, str]:
    """Status and code of a refusal."""
    with_code = re.search('"code":"([a-z_]+)"', answer)
    return int(answer.split()[1]), with_code[1] if with_code else ""


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Transfer-Encoding: gzip, chunked\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Transfer-Encoding : chunked\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Length: 3\r\nContent-Length: 4\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Length: 3, 4\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Length: -1\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Length: +3\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Length: {'9' * 30}\r\n", 400),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Length: 999999999\r\n", 413),
        (f"POST /v1/check-ins HTTP/1.1\r\n{HOST}Content-Encoding: gzip\r\nContent-Length: 3\r\n", 415),
        (f"GET /readyz HTTP/1.1\r\n{HOST}{HOST}", 400),
        ("GET /readyz HTTP/1.1\r\n", 400),
        (f"GET /readyz HTTP/1.1\r\n{HOST}Fedlog-Lease: :YQ==:\r\nFedlog-Lease: :YQ==:\r\n", 400),
        (f"GET /readyz HTTP/1.1\r\n{HOST}X: a\x00b\r\n", 400),
        (f"GET /readyz HTTP/1.1\r\n{HOST}X Y: a\r\n", 400),
        (f"GET  /readyz HTTP/1.1\r\n{HOST}", 400),
        (f"GET /readyz\r\n{HOST}", 400),
        (f"GET /readyz?{'a' * BYTES_MAX} HTTP/1.1\r\n{HOST}", 431),
        (f"GET /readyz HTTP/1.1\r\n{HOST}X: {'a' * 100_000}\r\n", 431),
        (f"GET /readyz HTTP/1.1\r\n{HOST}" + "X: a\r\n" * HEADERS_MAX, 431),
        (f"TRACE /readyz HTTP/1.1\r\n{HOST}", 405),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_read_in_none(behind: Behind, head: str, expected: int) -> None:
    """Guarantee: lengths that differ, repeats and heads without end are refused with a problem and a window."""
    answer = ask(behind, head + "\r\n")
    assert told(answer)[0] == expected, answer
    assert "fedlog-retry: min=" in answer.lower()
    assert "application/problem+json" in answer
    # What stands behind such a head on the connection is nobody's request.
    assert "\r\nconnection: close\r\n" in answer.lower() or expected == 405
    assert behind.world.records("checkins") == []


def test_nothing_is_smuggled_behind_a_refusal(behind: Behind) -> None:
    """Guarantee: of what follows a request with two lengths not a byte is taken for another request."""
    with connected(behind.url) as raw:
        inner = "GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n"
        head = "POST /v1/check-ins HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        raw.send(f"{head}0\r\n\r\n{inner}".encode())
        answer = raw.read_all()
    assert answer.count("HTTP/1.1 ") == 1
    # Before a byte of either body is read: the status alone would be that of junk, too.
    assert told(answer) == (400, "length_ambiguous")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../../../etc/passwd",
        "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/models/%252e%252e",
        "/v1/tasks/%00",
        "/v1/tasks/..",
        "/v1/tasks/%ff%fe",
        "/v1/uploads/..%2f..",
        "//v1/tasks/digits",
        "/v1/check-ins/",
        "/v1//check-ins",
        "/V1/check-ins",
        "/v1/check-ins;a=b",
        "/v1\\check-ins",
        "http://elsewhere.example/v1/deployment",
        "elsewhere.example:443",
        "*",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_no_path_leads_anywhere_else(behind: Behind, method: str, path: str) -> None:
    """Guarantee: a path is one of the protocol's, letter for letter; nothing is resolved, and nobody redirected."""
    answer = ask(behind, f"{method} {path} HTTP/1.1\r\nHost: elsewhere.example\r\nContent-Length: 0\r\n\r\n")
    # Without its lease nobody learns whether there is such an upload.
    assert told(answer)[0] in (403, 404, 405), answer
    assert "location:" not in answer.lower()


def test_many_ranges_are_refused(behind: Behind) -> None:
    """Guarantee: a request of some bytes does not ask for a hundred times the model."""
    path = f"/v1/models/{behind.world.created.model.sha256.hex()}"
    many = ",".join(f"{at}-{at}" for at in range(0, 2_000, 2))
    assert behind.ask("GET", path, Range=f"bytes={many}").status == 400
    assert behind.ask("GET", path, Range="bytes=9-3").status in (400, 416)
    assert behind.ask("GET", path, Range="lines=1-2").status == 400


def scope_of(headers: list[tuple[bytes, bytes]]) -> dict[str, object]:
    """A request as the server hands it over."""
    line = {"method": "GET", "raw_path": b"/", "query_string": b"", "http_version": "1.1"}
    return {"type": "http", "headers": headers, **line}


def find_refusal(headers: list[tuple[bytes, bytes]]) -> Refusal | None:
    """Why a head is refused; None where it is not."""
    try:
        require_head(scope_of(headers))
    except Refusal as refusal:
        return refusal
    return None


names = st.sampled_from([*sorted(ONCE), b"x-a", b"x-b", b"accept"])


@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=80))
def test_what_is_let_through_is_short_and_says_nothing_twice(headers: list[tuple[bytes, bytes]]) -> None:
    """Law: a head that passes is within its bounds, and has each word that decides anything at most once."""
    refusal = find_refusal(headers)
    if refusal is not None:
        assert 400 <= refusal.status < 500
    else:
        assert len(headers) <= HEADERS_MAX
        assert sum(len(name) + len(value) for name, value in headers) <= BYTES_MAX
        decisive = [name for name, _ in headers if name in ONCE]
        assert len(decisive) == len(set(decisive))
