"""Runs the server: an address, its own or given certificates, and an orderly end. The only user of uvicorn."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from schemas.errors import EXIT_USAGE, FedlogError

# Streams stay open for ever; whoever follows one goes on with the next server.
END_WAIT_S = 2


class AddressUnusable(FedlogError):
    """The server cannot listen where it should."""

    exit_code = EXIT_USAGE
    code = "address_unusable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files of a certificate and its private key."""

    certificate: Path
    key: Path


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 takes a free one. Raises AddressUnusable."""
    # Listening comes first, so that the address that is printed answers.
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise AddressUnusable(f"Nothing can listen on {host}, port {port}: {error.strerror or error}.") from error


def run(app: ASGIApp, listening: socket.socket, *, tls: Tls | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=END_WAIT_S,
        # A proxy's word about who asks is believed only where somebody set one up for that.
        proxy_headers=False,
        ssl_certfile=str(tls.certificate) if tls else None,
        ssl_keyfile=str(tls.key) if tls else None,
    )
    uvicorn.Server(config).run(sockets=[listening])
