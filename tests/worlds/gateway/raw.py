"""A connection on which a test writes every byte itself, and reads what comes."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Raw:
    """One TCP connection to a server."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes) -> None:
        """These bytes, now. A server that has had enough may have closed."""
        self._connection.sendall(data)

    def begin(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """A request up to its body."""
        host, port = self._connection.getpeername()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}:{port}", *(f"{name}: {v}" for name, v in headers.items())]
        self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def read_head(self) -> str:
        """The answer as far as its headers go; empty where the connection ends before."""
        head = b""
        while b"\r\n\r\n" not in head:
            part = self._connection.recv(65_536)
            if not part:
                break
            head += part
        return head.decode("latin-1")

    def read_all(self) -> str:
        """All that comes until the server closes."""
        parts = []
        while part := self._connection.recv(65_536):
            parts.append(part)
        return b"".join(parts).decode("latin-1")

    def read_until_cut(self) -> bytes:
        """All that comes until the connection ends, in whatever way."""
        parts = []
        with suppress(ConnectionResetError):
            while part := self._connection.recv(65_536):
                parts.append(part)
        return b"".join(parts)

    def cut(self) -> None:
        """End the connection without a word."""
        self._connection.close()


@contextmanager
def connected(url: str, *, timeout_s: float = 60.0) -> Iterator[Raw]:
    """A connection to a server, closed at the end."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname or "", at.port or 0), timeout=timeout_s) as connection:
        yield Raw(connection)
