"""A proxy that cuts connections after some bytes, for tests of what is repeated then."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

PIECE_BYTES = 16_384


@dataclass(slots=True)
class Cutter:
    """Passes bytes on, and cuts a connection when it has taken the next of `cuts` from its client."""

    target: tuple[str, int]
    cuts: list[int]
    sent_bytes: int = 0
    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, client: socket.socket) -> None:
        """One connection, until either side ends it, or its time has come."""
        with client, suppress(OSError), socket.create_connection(self.target) as server:
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            taken = 0
            while data := client.recv(PIECE_BYTES):
                server.sendall(data)
                taken += len(data)
                with self.lock:
                    self.sent_bytes += len(data)
                    # A request without a body is not worth a cut.
                    if self.cuts and taken >= self.cuts[0]:
                        self.cuts.pop(0)
                        self.done += 1
                        break
            # Both halves, or the client would wait for an answer.
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


def _pass_on(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError):
        while data := server.recv(PIECE_BYTES):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)


@contextmanager
def cutting(url: str, cuts: Sequence[int]) -> Iterator[tuple[str, Cutter]]:
    """The address of a proxy before a server, and its books."""
    at = urlsplit(url)
    cutter = Cutter((at.hostname or "", at.port or 0), list(cuts))
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=cutter.serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", cutter
    finally:
        listening.close()
