"""Runs the gateway's server. Which one, and why, is told in docs/decisions."""

from __future__ import annotations

import gc
import socket

import uvicorn
from starlette.applications import Starlette

from ops.gateway.access.heads import BYTES_MAX
from ops.gateway.access.watching import Books
from ops.gateway.access.wire import Seats, StrictHttp, count_seats
from ops.gateway.app import Gateway
from ops.web.serving import RenewingServer, Tls

# Requests under way may end; whoever waits for an answer asks another gateway.
END_WAIT_S = 5
IDLE_S = 75


def run(app: Starlette, listening: socket.socket, *, tls: Tls | None = None, behind_proxy: bool = False) -> None:
    """Serve until Ctrl-C or SIGTERM. What was loaded before stays, and is looked through for garbage no more."""
    config = make_config(app, tls=tls, seats=count_seats(behind_proxy=behind_proxy))
    gc.collect()
    gc.freeze()
    GatewayServer(config, app.state.gateway).run(sockets=[listening])


class GatewayServer(RenewingServer):
    """Ends in order: whoever waits is told to ask elsewhere, and what was taken in is acknowledged."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections, and answer those that are there."""
        # An answer to a check-in may take 25 seconds, and a server that ends has five.
        self._gateway.drain()
        await super().shutdown(sockets)


def make_config(app: Starlette, *, tls: Tls | None = None, seats: Seats | None = None) -> uvicorn.Config:
    """How the server runs, for whoever runs it in a thread too."""
    return uvicorn.Config(
        app,
        # Named, because another parser or loop that happens to be installed has other limits.
        http=_make_protocol(app, seats),
        loop="asyncio",
        ws="none",
        # What strangers send is no warning: it is counted. What is one is said in our form.
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_WAIT_S,
        timeout_keep_alive=IDLE_S,
        h11_max_incomplete_event_size=BYTES_MAX,
        # A proxy's word about who asks is believed only where somebody set one up for that.
        proxy_headers=False,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )


def _make_protocol(app: Starlette, seats: Seats | None) -> type[StrictHttp]:
    books: Books = app.state.books
    own = {"note_refusal": staticmethod(books.note_unread), **({"seats": seats} if seats else {})}
    return type("Http", (StrictHttp,), own)
