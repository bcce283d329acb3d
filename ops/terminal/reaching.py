"""By which road devices reach their server: the log itself, or a gateway (`--gateway`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.opening import open_log, require_operator
from ops.settings import Settings
from ops.terminal.errors import ConsoleError

if TYPE_CHECKING:
    from client_agent.link import OpenLink
    from client_agent.links.requests import GatewayOptions
    from client_agent.outbox.outcomes import KeptOutcomes

Gateway = Annotated[
    str, typer.Option(metavar="URL", help="Gateway to talk to, instead of Kafka.", rich_help_panel="Gateway")
]
GatewayCa = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Authorities for the gateway's certificate, PEM.", rich_help_panel="Gateway"),
]
GatewayPin = Annotated[
    str,
    typer.Option(metavar="SHA256", help="Digest of the gateway's certificate, in hex.", rich_help_panel="Gateway"),
]


def find_gateway(url: str, *, ca_file: Path | None, pin: str) -> GatewayOptions | None:
    """How a gateway is reached; None where none is named. Raises GatewayUnfit."""
    if not url:
        return None
    # An extra, because a device that reaches Kafka signs no requests.
    try:
        import http_message_signatures  # noqa: F401 - whether it is there
    except ImportError as error:
        raise ConsoleError("A gateway needs more: pip install 'fedlog[http]'.", exit_code=2) from error
    from client_agent.links.requests import GatewayOptions

    return GatewayOptions(url=url, ca_file=ca_file, pin=pin)


@contextmanager
def open_road(settings: Settings, gateway: GatewayOptions | None, *, kept: KeptOutcomes) -> Iterator[OpenLink]:
    """Opens the link of one device."""
    operator = require_operator(settings)
    if gateway is not None:
        # The same device over another link; nothing here opens a connection to Kafka.
        from client_agent.links.http import HttpLink
        from ops.logging_setup import set_up_logging

        set_up_logging(as_json=False)
        yield partial(HttpLink, gateway, operator, keep=kept.keep)
        return
    # Only a device that reaches Kafka needs a client for it.
    from client_agent.links.kafka import KafkaLink

    with open_log(settings) as log:
        yield partial(KafkaLink, log, operator, keep=kept.keep)


def bind_link(settings: Settings, operator: bytes, *, gateway: GatewayOptions | None) -> OpenLink:
    """Opens a link in whichever process of a fleet calls it."""
    if gateway is not None:
        from client_agent.links import http

        return partial(http.open_link, options=gateway, operator=operator)
    from client_agent.links.kafka import open_link
    from streams.kafka.log import KafkaLog

    open_log = partial(KafkaLog, settings.kafka("fedlog-fleet"), will_append=True)
    return partial(open_link, open_log, operator=operator)
