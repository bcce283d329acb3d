"""`fedlog gateway`: devices reach the log over HTTP."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say
from ops.logging_setup import is_watched, set_up_logging
from ops.opening import require_operator
from ops.settings import Settings
from ops.terminal.commands.serving.serve import LOOPBACK, find_tls, require_tls, write_host
from ops.terminal.errors import ConsoleError

if TYPE_CHECKING:
    from ops.gateway.access.limits import Limits


Host = Annotated[str, typer.Option(help="Address to listen on; others than this machine need TLS.")]
Port = Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65_535)]
Url = Annotated[
    str, typer.Option(metavar="URL", help="How devices name this very process, where several run side by side.")
]
Certificate = Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate, PEM.")]
Key = Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")]
BehindProxy = Annotated[
    bool, typer.Option("--behind-proxy", help="Somebody else speaks TLS with devices before it gets here.")
]
AllowOrigin = Annotated[
    list[str] | None,
    typer.Option(metavar="ORIGIN", help="Whose pages may take part from a browser, https://…; may be repeated."),
]
Limit = Annotated[
    list[str] | None,
    typer.Option(
        metavar="KIND=N/S",
        help="At most N requests in S seconds of one address, device or class of devices; may be repeated. "
        "For devices outside this machine by default address=3000/10 and device=300/60.",
    ),
]
Redis = Annotated[
    str, typer.Option(metavar="URL", help="Where several gateways count together, redis://…; each alone without.")
]
AccessLog = Annotated[
    bool, typer.Option("--access-log", help="A line a request on stderr; without bodies, leases, tokens and names.")
]
State = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="Folder for uploads under way and models (FOLDER/gateway).")
]


def gateway(
    ctx: typer.Context,
    host: Host = "127.0.0.1",
    port: Port = 8710,
    url: Url = "",
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    behind_proxy: BehindProxy = False,
    allow_origin: AllowOrigin = None,
    limit: Limit = None,
    redis: Redis = "",
    access_log: AccessLog = False,
    state: State = None,
) -> None:
    """Let devices check in, fetch models and send updates over HTTP, until Ctrl-C. It needs no key."""
    require_gateway()
    from ops.gateway.gates import Outside
    from ops.gateway.running import make_serving_app
    from ops.gateway.serving import run
    from ops.web.serving import listen

    tls = find_tls(tls_certificate, tls_key)
    require_tls(tls, host, behind_proxy=behind_proxy)
    settings: Settings = ctx.obj.find_cluster()
    set_up_logging(as_json=not is_watched())
    operator = require_operator(settings)
    # A folder of its own: it may be on another disk, and nothing in it is secret.
    folder = state or settings.open_folder() / "gateway"
    limits = _find_limits(limit or [], redis, is_open=host not in LOOPBACK or behind_proxy)
    outside = Outside(origins=allow_origin or (), behind_proxy=behind_proxy, limits=limits, logs_access=access_log)
    outside.books.instruments.serve(settings.metrics_host, settings.metrics_port)
    listening = listen(host, port)
    with closing(settings.log("fedlog-gateway")) as log:
        app = make_serving_app(log, folder.resolve(), operator=operator, base=url, outside=outside)
        say(f"{'https' if tls else 'http'}://{write_host(host)}:{listening.getsockname()[1]}")
        # SIGTERM is how a gateway is meant to end: it has drained by then.
        with suppress(KeyboardInterrupt):
            run(app, listening, tls=tls, behind_proxy=behind_proxy)
    note("The gateway has ended; what it had taken in is in the log.")


def _find_limits(texts: list[str], redis: str, *, is_open: bool) -> Limits:
    """What holds for devices; those of this machine, a fleet for instance, have no limit unless one is named."""
    from ops.gateway.access.limits import STRANGERS, Limits, parse_limits
    from ops.gateway.access.shared import open_shared

    rates = {**(STRANGERS if is_open else {}), **parse_limits(texts)}
    return Limits(rates, open_shared(redis) if redis else None)


def require_gateway() -> None:
    """Raises ConsoleError, which says how to install it."""
    # An extra, because workers and devices serve nothing.
    try:
        import starlette  # noqa: F401 - whether they are there
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConsoleError("The gateway needs more: pip install 'fedlog[gateway]'.", exit_code=2) from error
