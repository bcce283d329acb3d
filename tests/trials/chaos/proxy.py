"""One worker's way to the broker: a TCP proxy that can hold everything back, and lose the reply to an EndTxn.

It reads just enough of Kafka's protocol: frames begin with their length; a request goes on with its key, version and
correlation id, a reply with that id. In replies that name brokers the broker's port is replaced by the proxy's own,
which changes no length, so that a client never finds another way.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

END_TXN = 26
NAMING_BROKERS = (3, 10, 60)  # Metadata, FindCoordinator, DescribeCluster
HOST = "127.0.0.1"


class Proxy:
    """Listens on a port that the system chooses, until closed."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        self._is_open = threading.Event()
        self._is_open.set()
        self._to_lose = 0
        self.lost = 0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def cut(self) -> None:
        """Hold back whatever either side sends."""
        self._is_open.clear()

    def heal(self) -> None:
        """Deliver what was held back, late as it is."""
        self._is_open.set()

    def lose_reply(self) -> None:
        """Let the next EndTxn through, and lose the broker's reply."""
        self._to_lose += 1

    def close(self) -> None:
        """Drop every connection."""
        self.heal()
        for one in (self._listening, *self._sockets):
            _closed(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                try:
                    broker = socket.create_connection((HOST, self._broker_port))
                except OSError:
                    _closed(client)
                    continue
                self._sockets += [client, broker]
                self._connect(client, broker)

    def _connect(self, client: socket.socket, broker: socket.socket) -> None:
        asked: dict[int, int] = {}

        def request(frame: bytes) -> bytes:
            key, _, correlation = struct.unpack_from(">hhi", frame)
            if key in (END_TXN, *NAMING_BROKERS):
                asked[correlation] = key
            return frame

        def reply(frame: bytes) -> bytes | None:
            [correlation] = struct.unpack_from(">i", frame)
            return self._passed_on(asked.pop(correlation, -1), frame)

        for source, target, change in ((client, broker, request), (broker, client, reply)):
            threading.Thread(target=self._pump, args=(source, target, change), daemon=True).start()

    def _passed_on(self, key: int, frame: bytes) -> bytes | None:
        if key == END_TXN and self._to_lose:
            self._to_lose -= 1
            self.lost += 1
            return None
        if key in NAMING_BROKERS:
            return frame.replace(_named(self._broker_port), _named(self.port))
        return frame

    def _pump(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]) -> None:
        with contextlib.suppress(OSError, struct.error):
            while True:
                [size] = struct.unpack(">i", _exactly(source, 4))
                frame = change(_exactly(source, size))
                self._is_open.wait()
                if frame is not None:
                    target.sendall(struct.pack(">i", len(frame)) + frame)
        for one in (source, target):
            _closed(one)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = source.recv(min(size - len(data), 1 << 20))
        if not part:
            raise OSError("closed")
        data += part
    return bytes(data)


def _named(port: int) -> bytes:
    """How a reply names a broker: the end of its host, and its port."""
    return HOST.encode() + struct.pack(">i", port)


def _closed(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
