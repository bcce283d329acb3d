"""Connections: whoever connects and asks nothing is hung up on, and everybody else is answered meanwhile."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from ops.web.serving import PatientHttp, listen

PATIENCE_S = 60.0
HALF = b"GET / HTTP/1.1\r\nHost: here\r\n"


async def answer(request: Request) -> PlainTextResponse:
    """After a while, and longer than anybody may take to ask."""
    return PlainTextResponse((await request.body()).decode() or "hello")


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, ask_wait_s: float = 0.3) -> Iterator[int]:
    """The port of a server that waits no longer than this for a request."""
    monkeypatch.setattr(PatientHttp, "ask_wait_s", ask_wait_s)
    listening = listen("127.0.0.1", 0)
    app = Starlette(routes=[Route("/", answer, methods=["GET", "POST"])])
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


def test_a_body_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is behind the headers is for the gate to bound, which knows who sends it."""
    began = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 4\r\n\r\nla"
    with served(monkeypatch) as port, connect(port, began) as client:
        time.sleep(0.8)
        client.sendall(b"te")
        assert is_told(client, b"late")


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
