"""Runs the server: an address, its own or given certificates, and an orderly end. The only user of uvicorn."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h11
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.h11_impl import H11Protocol

from ops.web.changes import Changes
from schemas.errors import EXIT_USAGE, FedlogError

# Streams stay open for ever; whoever follows one goes on with the next server.
END_WAIT_S = 2
# A request line and headers take no longer to arrive; a browser opens a few connections at once.
ASK_WAIT_S = 10.0
CONNECTIONS_MAX = 256
# Below this the parser is as quick as whoever goes round it.
LONG_BYTES = 4_096
# What the system hands over at once: of a body that nobody has asked for yet no more is taken in.
ASKED_BYTES, POURED_BYTES = 2**16, 2**18
# Under this name in a request's scope is `PatientHttp.pour`, where a body has a length that was said.
POUR = "fedlog.pour"

logger = structlog.get_logger(__name__)


class AddressUnusable(FedlogError):
    """The server cannot listen where it should."""

    exit_code = EXIT_USAGE
    code = "address_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files of a certificate and its private key."""

    certificate: Path
    key: Path


class PatientHttp(H11Protocol):
    """HTTP as uvicorn speaks it, but for whoever connects and does not ask, or opens more connections than people do.

    Uvicorn waits for a request without an end, and a stranger could hold every file that this process may open.
    """

    ask_wait_s = ASK_WAIT_S
    # None: whoever serves by this class counts connections itself.
    connections_max: int | None = CONNECTIONS_MAX
    _waiting: asyncio.TimerHandle | None = None
    _take: Callable[[bytes], object] | None = None
    _poured: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for long."""
        super().connection_made(transport)
        self._take_at_once(ASKED_BYTES)
        if self.connections_max is not None and self._count_beside() > self.connections_max:
            transport.abort()
        self._expect()

    def data_received(self, data: bytes) -> None:
        """Some of a request, which has to be whole soon; of one that is being answered the gate bounds the body."""
        for part in _split_head(data, self.conn):
            self._receive(part)

    def _receive(self, data: bytes) -> None:
        if self._pass_on(data):
            return
        self._expect()
        is_new = not self._is_answering()
        super().data_received(data)
        if not self._is_answering():
            return
        self._stop_waiting()
        if is_new and _count_left(self.conn) and not self.cycle.waiting_for_100_continue:
            # The application has not begun yet: it is a task of the event loop.
            self.scope[POUR] = self.pour  # type: ignore[literal-required]
        self._hand_over()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)
        self._end_pouring(ClientDisconnect())

    async def pour(self, take: Callable[[bytes], object]) -> None:
        """Hand each part of the body to `take` as soon as it comes, until it is whole; raises what that raises.

        Nobody is woken for each, and nothing waits. Raises ClientDisconnect.
        """
        self._take, self._poured = take, self.loop.create_future()
        self._take_at_once(POURED_BYTES)
        self._hand_over()
        if self.cycle.disconnected:
            self._end_pouring(ClientDisconnect())
        try:
            await self._poured
        finally:
            self._take = self._poured = None
            self._take_at_once(ASKED_BYTES)

    def _hand_over(self) -> None:
        """What has come of a body that somebody takes; and that it is whole."""
        if self._take is None or self._poured is None or self._poured.done():
            return
        try:
            if self.cycle.body:
                self._take(bytes(self.cycle.body))
        except Exception as error:  # noqa: BLE001
            self._end_pouring(error)
            return
        self.cycle.body = bytearray()
        if self.cycle.more_body:
            self.flow.resume_reading()
        else:
            self._poured.set_result(None)

    def _end_pouring(self, error: Exception) -> None:
        if self._poured is not None and not self._poured.done():
            self._poured.set_exception(error)

    def _take_at_once(self, size: int) -> None:
        # Asyncio's own name for what it asks the system for.
        self.transport.max_size = size  # type: ignore[attr-defined]

    def _pass_on(self, data: bytes) -> bool:
        """Whether these bytes are a good deal of a body whose length was said: then nothing is to be parsed.

        The parser would copy each byte five times. It learns how many it has missed.
        """
        left = _count_left(self.conn)
        if not LONG_BYTES <= len(data) <= left or not self._is_answering() or self.conn.our_state is h11.DONE:
            return False
        # The last byte is the parser's, which says then that this is all.
        passed = data if len(data) < left else data[:-1]
        self.conn._reader._remaining = left - len(passed)  # type: ignore[union-attr]
        # As they came, where nothing is waiting: whoever reads them gets these very bytes.
        self.cycle.body = self.cycle.body + passed if self.cycle.body else passed  # type: ignore[assignment]
        if self._take is not None:
            self._hand_over()
        else:
            if len(self.cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            self.cycle.message_event.set()
        if passed is not data:
            super().data_received(data[-1:])
            self._hand_over()
        return True

    def _count_beside(self) -> int:
        hosts = [client[0] for one in self.connections if (client := getattr(one, "client", None))]
        return hosts.count(self.client[0]) if self.client else 0

    def _expect(self) -> None:
        # The first byte begins the time, and no later one does: a byte a second is no request either.
        if self._waiting is None and not self._is_answering():
            self._waiting = self.loop.call_later(self.ask_wait_s, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = None

    def _is_answering(self) -> bool:
        # Before the first request there is no cycle, and after an answer the last one stays.
        return not getattr(self.cycle, "response_complete", True)


class RenewingServer(uvicorn.Server):
    """Takes a certificate that was replaced on disk for all connections from then on; those that are open stay."""

    _seen: object = None
    _is_warned = False

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; files are looked at once."""
        if counter % 10 == 0 and self.config.ssl is not None:
            self.renew(self.config.ssl)
        return await super().on_tick(counter)

    def renew(self, context: ssl.SSLContext) -> None:
        """Load certificate and key, where they have changed and belong together."""
        certificate, key = str(self.config.ssl_certfile), str(self.config.ssl_keyfile)
        try:
            seen = [(found.st_mtime_ns, found.st_ino) for found in map(os.stat, (certificate, key))]
            if self._seen in (None, seen):
                self._seen = seen
                return
            # Into another one first: whoever replaces two files does so one after the other.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            # The old one goes on until the pair is whole; said once, and tried again each second.
            if not self._is_warned:
                logger.warning("certificate_not_renewed", certificate=certificate, reason=str(error))
            self._is_warned = True
            return
        self._seen, self._is_warned = seen, False
        logger.info("certificate_renewed", certificate=certificate)


class PageServer(RenewingServer):
    """Ends in order: open streams come to their end, and are not cut off with an error for each in the log."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self._changes = changes

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections, and let those that are there end."""
        await self._changes.end()
        await super().shutdown(sockets)


def _split_head(data: bytes, connection: h11.Connection) -> tuple[bytes, ...]:
    """The same bytes, where a long body comes with its head in two parts: the parser is spared the second."""
    if len(data) < LONG_BYTES or connection.their_state is not h11.IDLE or (at := data.find(b"\r\n\r\n")) < 0:
        return (data,)
    # No bytes would tell the parser that the other side has ended.
    return (data[: at + 4], data[at + 4 :]) if at + 4 < len(data) else (data,)


def _count_left(connection: h11.Connection) -> int:
    """How many bytes of a body are missing; 0 while a head, or a body in another form, is read."""
    if connection.their_state is not h11.SEND_BODY or connection.trailing_data[0]:
        return 0
    reader = getattr(connection, "_reader", None)
    # Where h11 keeps this elsewhere every byte is parsed, and nothing else changes.
    return getattr(reader, "_remaining", 0) if type(reader).__name__ == "ContentLengthReader" else 0


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises AddressUnusable."""
    # Listening comes first, so that the address that is printed answers.
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise AddressUnusable(f"Nothing can listen on {host}, port {port}: {error.strerror or error}.") from error


def run(app: Starlette, listening: socket.socket, *, tls: Tls | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    make_server(app, tls=tls).run(sockets=[listening])


def make_server(app: Starlette, *, tls: Tls | None = None) -> PageServer:
    """The server, for whoever runs it in a thread too."""
    config = uvicorn.Config(
        app,
        http=PatientHttp,
        # Named, because another loop that happens to be installed has no size of a reading to set.
        loop="asyncio",
        # What strangers send is no warning, and what is one is said in our form.
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_WAIT_S,
        # A proxy's word about who asks is believed only where somebody set one up for that.
        proxy_headers=False,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )
    return PageServer(config, app.state.site.changes)
