"""Whether the embedded broker answers: its port is open long before Kafka does."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

from ops.broker_state import BrokerHandle

TIMEOUT_S = 2


def knock(handle: BrokerHandle) -> bool:
    """Whether a Kafka answers an ApiVersions request (key 18, version 0) on the port of its clients."""
    correlation_id, client = 7, b"fedlog"
    body = struct.pack(">hhih", 18, 0, correlation_id, len(client)) + client
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", handle.port), timeout=TIMEOUT_S))
            if handle.authority:
                trusting = ssl.create_default_context(cafile=handle.authority)
                connection = stack.enter_context(trusting.wrap_socket(connection, server_hostname="127.0.0.1"))
            connection.sendall(struct.pack(">i", len(body)) + body)
            # Whole at once, as it was sent; a TLS socket knows no flag to wait for more.
            return connection.recv(8)[4:8] == struct.pack(">i", correlation_id)
    except OSError:
        return False
