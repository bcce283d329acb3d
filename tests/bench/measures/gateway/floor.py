"""The least that a server in Python does for an upload: `floor SETTINGS PARTITION SIGNATURES`, in its own process.

One thread without an event loop reads each request into one buffer, takes the digest of a body, appends what has come
together as the gateway appends it, and answers. It checks nothing, but for the signatures of request and submission
where SIGNATURES is 1: what a protocol costs that has them. It says its port, and serves until it is killed.
"""

from __future__ import annotations

import hashlib
import json
import selectors
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.http.device_protocol import write_address
from schemas.identifiers import CHUNK_BYTES, BodyRef
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from streams.log import Draft
from streams.packing import append_packed

# A head, and the longest body.
BUFFER_BYTES = 2**16 + 2**23
SIGNED_BYTES = 600
UPLOAD = b"POST /v1/uploads "
# As the gateway gathers them.
BATCH_BYTES_MAX = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its records, and the digest of its body where it is an upload."""

    connection: socket.socket
    drafts: list[Draft]
    sha256: bytes
    size: int

    def answer(self, offsets: list[int]) -> None:
        """What the gateway would say."""
        body = b""
        if self.sha256:
            at = self.drafts[0]
            ref = BodyRef(
                topic=at.topic,
                partition=at.partition,
                offsets=tuple(offsets),
                sha256=self.sha256,
                size=self.size,
                codec="int8",
            )
            body = write_address(ref)
        status = "200 OK" if body else "202 Accepted"
        self.connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)


class Server:
    """Answers whoever asks, each of those who are there at once in turn."""

    def __init__(self, log: KafkaLog, partition: int, *, is_signed: bool) -> None:
        self._log, self._partition, self._is_signed = log, partition, is_signed
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._selector = selectors.DefaultSelector()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._selector.register(self._listening, selectors.EVENT_READ)
        key = Ed25519PrivateKey.generate()
        self._key, self._signed = key.public_key(), bytes(SIGNED_BYTES)
        self._signature = key.sign(self._signed)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def serve(self) -> None:
        """For ever."""
        while True:
            batch, size = list[Request](), 0
            for request in self._read_ready():
                batch.append(request)
                size += request.size
                if size >= BATCH_BYTES_MAX:
                    self._append(batch)
                    batch, size = [], 0
            self._append(batch)

    def _append(self, batch: list[Request]) -> None:
        offsets = iter(append_packed(self._log, [draft for request in batch for draft in request.drafts]))
        for request in batch:
            request.answer([next(offsets) for _ in request.drafts])

    def _read_ready(self) -> Iterator[Request]:
        for key, _ in self._selector.select():
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            if connection is self._listening:
                accepted, _ = connection.accept()
                self._selector.register(accepted, selectors.EVENT_READ)
            elif (request := self._read(connection)) is not None:
                yield request
            else:
                self._selector.unregister(connection)
                connection.close()

    def _read(self, connection: socket.socket) -> Request | None:
        """The request that somebody has begun; None where it has hung up."""
        buffer, come, begins, until = self._buffer, 0, 0, 0
        while not begins or come < until:
            # Whoever has begun goes on at once: so this thread may wait for it.
            if not (more := connection.recv_into(buffer[come:])):
                return None
            come += more
            if not begins and (found := bytes(buffer[: min(come, 4_096)]).find(b"\r\n\r\n")) >= 0:
                begins = found + 4
                until = begins + _read_length(bytes(buffer[:begins]))
        return self._take(connection, buffer[begins:until], is_upload=buffer[: len(UPLOAD)] == UPLOAD)

    def _take(self, connection: socket.socket, body: memoryview, *, is_upload: bool) -> Request:
        self._verify()
        if not is_upload:
            return Request(connection, [Draft(topic="updates", partition=self._partition, value=bytes(body))], b"", 0)
        sha256 = hashlib.sha256(body).digest()
        drafts = [
            Draft(topic="bodies", partition=self._partition, key=b"floor", value=bytes(body[at : at + CHUNK_BYTES]))
            for at in range(0, len(body), CHUNK_BYTES)
        ]
        return Request(connection, drafts, sha256, len(body))

    def _verify(self) -> None:
        if self._is_signed:
            self._key.verify(self._signature, self._signed)


def _read_length(head: bytes) -> int:
    return int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])


def main() -> None:
    """As the command line says."""
    settings, partition, signatures = sys.argv[1:]
    log = KafkaLog(KafkaSettings(**json.loads(settings)), will_append=True)
    server = Server(log, int(partition), is_signed=signatures == "1")
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve()


if __name__ == "__main__":
    main()
