"""A gateway served in this process over any log, for tests: the real server on a port of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.gateway.gates import Outside
from ops.gateway.running import make_serving_app
from ops.gateway.serving import GatewayServer, make_config
from streams.log import EventLog
from tests.worlds.builders import KEY

STARTED_WITHIN_S = 60.0


@contextmanager
def served(
    log: EventLog, folder: Path, *, operator: bytes = KEY.public_key, outside: Outside | None = None
) -> Iterator[str]:
    """The address of a gateway, which has read its log."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = make_serving_app(log, folder, operator=operator, outside=outside)
    server = GatewayServer(make_config(app), app.state.gateway)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        give_up_s = time.monotonic() + STARTED_WITHIN_S
        while not (server.started and app.state.gateway.catalogue.is_complete.is_set()):
            assert time.monotonic() < give_up_s, "the gateway has not started"
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(STARTED_WITHIN_S)
