"""Runs the gateway's server. Which one, and why, is told in docs/decisions."""

from __future__ import annotations

import socket

import uvicorn
from starlette.types import ASGIApp

from ops.gateway.access.heads import BYTES_MAX
from ops.gateway.access.wire import Seats, StrictHttp, count_seats
from ops.web.serving import Tls

# Requests under way may end; whoever waits for an answer asks another gateway.
END_WAIT_S = 5
IDLE_S = 75


def run(app: ASGIApp, listening: socket.socket, *, tls: Tls | None = None, behind_proxy: bool = False) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    config = make_config(app, tls=tls, seats=count_seats(behind_proxy=behind_proxy))
    uvicorn.Server(config).run(sockets=[listening])


def make_config(app: ASGIApp, *, tls: Tls | None = None, seats: Seats | None = None) -> uvicorn.Config:
    """How the server runs, for whoever runs it in a thread too."""
    return uvicorn.Config(
        app,
        # Named, because another parser that happens to be installed has other limits.
        http=type("Http", (StrictHttp,), {"seats": seats} if seats else {}),
        ws="none",
        # What strangers send is no warning: it is counted.
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
