"""Connections: whoever connects and asks nothing is hung up on, and everybody else is answered meanwhile."""

from __future__ import annotations

import http.client
import random
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn
from cryptography import x509
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from ops.doors.authority import CertificateAuthority, LeafRequest
from ops.web.serving import POUR, PatientHttp, RenewingServer, listen, make_server

PATIENCE_S = 60.0
HALF = b"GET / HTTP/1.1\r\nHost: here\r\n"
HEARD: list[str] = []


async def answer(request: Request) -> PlainTextResponse:
    """After a while, and longer than anybody may take to ask."""
    return PlainTextResponse((await request.body()).decode() or "hello")


async def pour(request: Request) -> PlainTextResponse:
    """The same of a body that is handed over as it comes; one that begins with an x is too much."""
    parts: list[bytes] = []

    def take(part: bytes) -> None:
        if part.startswith(b"x"):
            raise ValueError("too much")
        parts.append(part)

    try:
        # Without a length that was said, and with all of it at once, there is nothing to be handed over.
        await request.scope.get(POUR, request.body)(*([take] if POUR in request.scope else []))
    except (ValueError, ClientDisconnect) as error:
        HEARD.append(type(error).__name__)
        return PlainTextResponse("refused")
    return PlainTextResponse(b"".join(parts).decode() or (await request.body()).decode() or "hello")


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, ask_wait_s: float = 0.3) -> Iterator[int]:
    """The port of a server that waits no longer than this for a request."""
    monkeypatch.setattr(PatientHttp, "ask_wait_s", ask_wait_s)
    listening = listen("127.0.0.1", 0)
    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"]), Route("/poured", pour, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, http=PatientHttp, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


def connect(port: int, said: bytes = b"") -> socket.socket:
    """A client that has said so much."""
    client = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    client.sendall(said)
    return client


def is_told(client: socket.socket, word: bytes) -> bool:
    """Whether the word stands in what comes, before patience or the connection ends."""
    told = b""
    while word not in told and (part := client.recv(4_096)):
        told += part
    return word in told


def drip(client: socket.socket) -> None:
    """Say a byte now and then, which never becomes a request."""
    for _ in range(round(PATIENCE_S / 0.05)):
        client.sendall(b"X")
        time.sleep(0.05)


def is_hung_up(client: socket.socket) -> bool:
    """Whether the other side ends the connection, without an answer, before patience ends."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("said", [b"", b"G", HALF], ids=["nothing", "a letter", "half"])
def test_who_does_not_ask_is_hung_up_on(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    """Also where it goes on a byte at a time; others are answered meanwhile."""
    with served(monkeypatch) as port, connect(port, said) as client:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        asking.request("GET", "/")
        assert asking.getresponse().read() == b"hello"
        with pytest.raises(ConnectionError):
            drip(client)
        asking.close()


def test_who_stops_in_a_second_request_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was of use once is held no longer for it."""
    with served(monkeypatch) as port, connect(port, HALF + b"\r\n") as client:
        assert is_told(client, b"hello")
        client.sendall(HALF)
        assert is_hung_up(client)


def test_no_loop_that_is_installed_beside_is_taken() -> None:
    """Guarantee: with uvloop in the environment a page answers: its transports have no size of a reading."""
    app = Starlette()
    app.state.site = SimpleNamespace(changes=None)
    assert make_server(app).config.loop == "asyncio"


def test_a_body_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind the headers is for the gate to bound, which knows who sends it."""
    began = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nla"
    with served(monkeypatch) as port, connect(port, began) as client:
        time.sleep(0.8)
        client.sendall(b"te")
        assert is_told(client, b"late")


@pytest.mark.parametrize("path", ["/", "/poured"])
def test_bodies_are_whole_however_they_are_cut(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Guarantee: what goes round the parser is what was sent, and the next request of a connection begins behind it."""
    chance = random.Random(5)
    with served(monkeypatch, ask_wait_s=PATIENCE_S) as port:
        for _ in range(15):
            bodies = [random_letters(chance, chance.choice([0, 1, 2, 50_000, 300_000])) for _ in range(3)]
            said = b"".join(write_request(body, path, is_chunked=chance.random() < 0.2) for body in bodies)
            with connect(port) as client:
                # At random, and where the first body begins and all but ends.
                cuts = [said.index(b"\r\n\r\n") + 4, len(said) - chance.randint(1, 3)]
                cuts += [chance.randint(0, len(said)) for _ in range(chance.randint(0, 5))]
                threading.Thread(target=send_in_pieces, args=(client, said, sorted(cuts)), daemon=True).start()
                assert [read_answer(client) for _ in bodies] == [body or b"hello" for body in bodies]


def test_a_body_that_is_not_taken_or_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: whoever takes a body as it comes hears of its end, whatever it is, and never waits for ever."""
    HEARD.clear()
    with served(monkeypatch, ask_wait_s=PATIENCE_S) as port:
        for first, expected in ((b"x", ["ValueError"]), (b"y", ["ValueError", "ClientDisconnect"])):
            with connect(port) as client:
                said = write_request(first * 300_000, "/poured")
                client.sendall(said[:200])
                time.sleep(0.1)
                client.sendall(said[200:100_000])
                if first == b"x":
                    assert read_answer(client) == b"refused"
            wait_until(lambda expected=expected: expected == HEARD)  # type: ignore[misc]


def test_what_is_longer_than_it_said_is_no_part_of_a_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a body ends where its head says, and what follows is read as a request, which it is not."""
    with served(monkeypatch, ask_wait_s=PATIENCE_S) as port, connect(port) as client:
        body = b"x" * 100_000
        client.sendall(write_request(body) + b"yyy\r\n\r\n")
        assert read_answer(client) == body
        assert is_told(client, b"400")


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 9_000])
def test_a_long_head_is_no_body(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """Guarantee: a head of many bytes is answered whatever follows it, also nothing, and so is the next request."""
    with served(monkeypatch, ask_wait_s=PATIENCE_S) as port, connect(port) as client:
        for _ in range(2):
            client.sendall(write_request(body).replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 8_000 + b"\r\n\r\n", 1))
            assert read_answer(client) == (body or b"hello")


def random_letters(chance: random.Random, length: int) -> bytes:
    """So many letters."""
    return chance.randbytes(length // 2 + 1).hex().encode()[:length]


def write_request(body: bytes, path: str = "/", *, is_chunked: bool = False) -> bytes:
    """A request with this body."""
    head = b"POST %s HTTP/1.1\r\nHost: here\r\n" % path.encode()
    if is_chunked and body:
        return head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def send_in_pieces(client: socket.socket, said: bytes, cuts: list[int]) -> None:
    """All of it, cut there."""
    for begin, end in zip([0, *cuts], [*cuts, len(said)], strict=True):
        client.sendall(said[begin:end])
        time.sleep(0.001)


def read_answer(client: socket.socket) -> bytes:
    """The body of one answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    body = b""
    while len(body) < length:
        body += client.recv(length - len(body))
    return body


def test_one_address_has_so_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is ended at once; those that are there stay."""
    monkeypatch.setattr(PatientHttp, "connections_max", 3)
    with served(monkeypatch, ask_wait_s=60.0) as port, ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(3)]
        # Each is counted once the server has taken it.
        for client in clients:
            client.sendall(HALF + b"\r\n")
            assert is_told(client, b"hello")
        assert is_hung_up(stack.enter_context(connect(port)))
        for client in clients:
            client.sendall(HALF + b"\r\n")
            assert is_told(client, b"hello")


def find_serial(port: int) -> int:
    """Whose certificate is shown to whoever connects now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connect(port) as plain, context.wrap_socket(plain) as client:
        return x509.load_der_x509_certificate(client.getpeercert(binary_form=True) or b"").serial_number


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait, with an end."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_s, "not within its time"
        time.sleep(0.05)


def test_a_certificate_is_renewed_without_a_restart(tmp_path: Path) -> None:
    """Guarantee: new connections see the new pair once it is whole; half of one changes nothing, nor ends a request."""
    authority, chain, key = CertificateAuthority.create(tmp_path / "ca"), tmp_path / "chain.pem", tmp_path / "key.pem"
    leaf = authority.issue(LeafRequest(name="server", hosts=["127.0.0.1"]))
    shutil.copy(leaf.certificate, chain)
    shutil.copy(leaf.key, key)
    old, new = leaf.read().serial_number, authority.renew("server").read().serial_number
    app = Starlette(routes=[Route("/", answer, methods=["GET"])])
    config = uvicorn.Config(
        app,
        log_level="critical",
        lifespan="off",
        ssl_certfile=str(chain),
        ssl_keyfile=str(key),
    )
    server, listening = RenewingServer(config), listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    trusting = ssl.create_default_context(cafile=authority.certificate)
    kept = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, context=trusting)
    try:
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"hello"
        assert find_serial(port) == old
        with capture_logs() as lines:
            shutil.copy(leaf.certificate, chain)
            wait_until(lambda: any(line["event"] == "certificate_not_renewed" for line in lines))
            assert find_serial(port) == old
            shutil.copy(leaf.key, key)
            wait_until(lambda: find_serial(port) == new)
        assert [line["event"] for line in lines] == ["certificate_not_renewed", "certificate_renewed"]
        # The connection from before goes on.
        kept.request("GET", "/")
        assert kept.getresponse().read() == b"hello"
    finally:
        kept.close()
        server.should_exit = True
        thread.join(PATIENCE_S)
