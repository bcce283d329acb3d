"""Where the brokers are, and how every client of them is configured: kafka-python, librdkafka and an SSL context."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

# Before 2.8 a fenced kafka-python producer can renew itself and fence its successor.
BROKER_RELEASE_MIN = (2, 8)
REQUEST_TIMEOUT_S = 10.0
BOOTSTRAP_TIMEOUT_S = 5.0
# Short, because a client that is late after an outage keeps its process from working.
RECONNECT_BACKOFF_MAX_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """Brokers, protocol and credentials; `topic_prefix` keeps deployments apart on one cluster."""

    bootstrap_servers: str
    topic_prefix: str = ""
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    client_id: str = "fedlog"

    def add_prefix(self, name: str) -> str:
        """The name of a topic or a writer on the broker."""
        return f"{self.topic_prefix}.{name}" if self.topic_prefix else name

    def client(self) -> dict[str, Any]:
        """The connection of every kafka-python client."""
        return {
            "bootstrap_servers": [server.strip() for server in self.bootstrap_servers.split(",")],
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
            "ssl_cafile": self.ssl_cafile,
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
            "request_timeout_ms": _ms(REQUEST_TIMEOUT_S),
            "bootstrap_timeout_ms": _ms(BOOTSTRAP_TIMEOUT_S),
            "reconnect_backoff_max_ms": _ms(RECONNECT_BACKOFF_MAX_S),
        }

    def librdkafka(self) -> dict[str, Any]:
        """The connection of every librdkafka client; it takes no value for what is not used."""
        optional = {
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": self.sasl_password,
            "ssl.ca.location": self.ssl_cafile,
            "ssl.certificate.location": self.ssl_certfile,
            "ssl.key.location": self.ssl_keyfile,
        }
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": self.client_id,
            "security.protocol": self.security_protocol,
            # An empty value would be taken for a file or a mechanism of that name.
            **{name: value for name, value in optional.items() if value is not None},
            "reconnect.backoff.max.ms": _ms(RECONNECT_BACKOFF_MAX_S),
        }

    def ssl_context(self) -> ssl.SSLContext | None:
        """The same for a client that wants a context; None without TLS."""
        if "SSL" not in self.security_protocol:
            return None
        context = ssl.create_default_context(cafile=self.ssl_cafile)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
