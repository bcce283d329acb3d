"""`fedlog serve`: the API and the page, on the history of a log."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say
from ops.logging_setup import is_watched, set_up_logging
from ops.settings import HISTORY_FILE, Settings
from ops.terminal.commands.history.query import HistoryPath, require_duckdb
from ops.terminal.errors import ConsoleError
from ops.terminal.options import describe_command

if TYPE_CHECKING:
    from ops.history.tables.projector import Viewer
    from ops.web.access.tokens import TokenKey
    from ops.web.access.watching import Books
    from ops.web.keeping import KeptHistory, KeptLog
    from ops.web.serving import Tls
    from ops.web.site import Concern, Site
    from streams.log import EventLog

LINK_HOLDS_S = 12 * 3_600
LOOPBACK = ("127.0.0.1", "localhost", "::1")


LookEvery = Annotated[
    float,
    typer.Option(help="How often it looks what is wrong with the deployment, as `fedlog doctor`; 0: never.", min=0),
]


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine need TLS.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65_535)] = 8700,
    name: Annotated[
        list[str] | None, typer.Option("--name", metavar="HOST", help="A name under which it is asked; repeatable.")
    ] = None,
    tls_certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Somebody else speaks TLS with people before it gets here.")
    ] = False,
    link: Annotated[
        bool, typer.Option("--link", help="Print an address that logs in as admin, for half a day.")
    ] = False,
    may_kill: Annotated[bool, typer.Option("--may-kill", hidden=True)] = False,
    look_every_s: LookEvery = 10.0,
    file: HistoryPath = None,
) -> None:
    """Serve the API under /api/v1 and the page at /, until Ctrl-C."""
    require_server()
    from ops.web.access.watching import Books
    from ops.web.app import make_app
    from ops.web.serving import listen, run

    tls = find_tls(tls_certificate, tls_key)
    require_tls(tls, host, behind_proxy=behind_proxy)
    settings: Settings = ctx.obj.find_cluster()
    set_up_logging(as_json=not is_watched())
    folder = settings.open_folder()
    tokens = _open_tokens(folder)
    books = Books()
    books.instruments.serve(settings.metrics_host, settings.metrics_port)
    listening = listen(host, port)
    with ExitStack() as stack:
        site = _open_site(stack, settings, books=books, path=file or folder / HISTORY_FILE)
        site = replace(site, hosts=frozenset([*LOOPBACK, host, *(name or [])]))
        if look_every_s:
            site = replace(site, list_concerns=stack.enter_context(_look(settings, books, every_s=look_every_s)))
        if may_kill:
            site = replace(site, kill=partial(_kill_aggregator, folder))
        url = f"{'https' if tls else 'http'}://{write_host(host)}:{listening.getsockname()[1]}"
        if link:
            url += f"/login?token={tokens.issue(subject='me', role='admin', expires_s=LINK_HOLDS_S)}"
        say(url)
        token = describe_command(["token", "create", "--role", "admin", "--subject", "me"])
        note(f"Log in with a token: {token}")
        run(make_app(site, books), listening, tls=tls)


def _open_site(stack: ExitStack, settings: Settings, *, books: Books, path: Path) -> Site:
    """What routes may use, with what keeps it up to date until the stack ends."""
    from ops.web.changes import Changes
    from ops.web.keeping import KeptLog
    from ops.web.levels import ShownLevels
    from ops.web.reaching import LogReach

    kept = stack.enter_context(_keep_history(settings, path))
    log, bodies = (stack.enter_context(closing(KeptLog(partial(settings.log, "fedlog-serve")))) for _ in range(2))
    reach = stack.enter_context(LogReach(partial(_open_log, settings)))
    site = replace(_make_site(settings, kept, log=log, bodies=bodies), find_log=lambda: reach.state)
    books.watch(log_answers=lambda: not reach.is_away, streams=lambda: site.watchers.count)
    if settings.metrics_port:
        # Only where somebody asks for them: a question over all tasks takes memory that a page does not need.
        stack.enter_context(ShownLevels(kept.make_reader(), books.instruments))
    return replace(site, changes=Changes(site.reader, is_log_away=lambda: reach.is_away))


def _open_tokens(folder: Path) -> TokenKey:
    from ops.web.access.tokens import FILE, open_key

    tokens, is_new = open_key(folder)
    if is_new:
        note(f"A key for tokens was made: {folder / FILE}. Whoever reads it can be anybody here.")
    return tokens


def require_server() -> None:
    """Raises ConsoleError, which says how to install it."""
    require_duckdb()
    # An extra, because workers and devices serve nothing.
    try:
        import fastapi  # noqa: F401 - whether they are there
        import jwt  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ConsoleError("The server needs more: pip install 'fedlog[serve]'.", exit_code=2) from error


def find_tls(certificate: Path | None, key: Path | None) -> Tls | None:
    from ops.web.serving import Tls

    # One without the other would serve in clear text what was meant to be hidden.
    if (certificate is None) != (key is None):
        raise ConsoleError("TLS takes both: --tls-certificate FILE and --tls-key FILE.", exit_code=2)
    if certificate is None or key is None:
        return None
    for path in (certificate, key):
        if not path.is_file():
            raise ConsoleError(f"{path}: there is no such file.", exit_code=2)
    return Tls(certificate=certificate, key=key)


def require_tls(tls: Tls | None, host: str, *, behind_proxy: bool) -> None:
    """Raises ConsoleError where what is said to other machines would travel in clear text."""
    if tls is None and host not in LOOPBACK and not behind_proxy:
        raise ConsoleError(
            "Others than this machine are served over TLS: --tls-certificate FILE --tls-key FILE, or --behind-proxy "
            "where a proxy does that.",
            exit_code=2,
        )


@contextmanager
def _open_log(settings: Settings) -> Iterator[EventLog]:
    # A name of its own, so that a broker's owner sees whose connections these are.
    with closing(settings.log("fedlog-serve")) as log:
        yield log


def _keep_history(settings: Settings, path: Path) -> KeptHistory:
    from ops.web.keeping import KeptHistory

    return KeptHistory(path, partial(_open_log, settings), find_viewer=partial(_find_viewer, settings))


def _find_viewer(settings: Settings, log: EventLog) -> Viewer:
    from ops.operator import deployments

    # Where the operator's key lies this names the deployment, so that a page can be open before the first task.
    deployments.open_server_key(settings, log)
    return deployments.find_viewer(settings, log)


def _make_site(settings: Settings, kept: KeptHistory, *, log: KeptLog, bodies: KeptLog) -> Site:
    from client_agent.learning.allow_list import AllowList
    from ops.audit.replay import Anchor
    from ops.history import verified
    from ops.opening import find_epoch_keys, find_operator, load_key
    from ops.operator.deployments import open_server_key
    from ops.web.access.tokens import open_key
    from ops.web.changes import Changes
    from ops.web.evidence import Evidence
    from ops.web.operating import Operator
    from ops.web.site import Site

    reader = kept.make_reader()
    operator_key = load_key(settings)
    # Where the operator's key does not lie, a private version cannot be made anew, and the page says so.
    noise = operator_key.find_noise if operator_key else None
    anchor = Anchor(operator=find_operator(settings), noise=noise, epochs=find_epoch_keys(settings))
    operator = Operator(
        log.use,
        open_bodies=bodies.use,
        find_key=partial(open_server_key, settings),
        reader=reader,
        allows=AllowList(names=frozenset(settings.allow), command="fedlog serve"),
        believes=anchor.operator,
    )
    return Site(
        reader=reader,
        hidden=kept.make_reader(hides=True),
        operator=operator,
        changes=Changes(reader),
        tokens=open_key(settings.folder)[0],
        hosts=frozenset(LOOPBACK),
        deployment=settings.topic_prefix,
        evidence=Evidence(partial(_open_log, settings), anchor),
        find_verified=partial(verified.find, settings.folder),
    )


@contextmanager
def _look(settings: Settings, books: Books, *, every_s: float) -> Iterator[Callable[[], Sequence[Concern]]]:
    """Look again and again what is wrong, for the page and for Prometheus."""
    from ops.doctor.findings import Severity
    from ops.doctor.gathering import gather
    from ops.doctor.watch import Figures, Watch
    from ops.web.site import Concern

    tones = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.NOTE: "quiet"}
    with Watch(partial(gather, settings), every_s=every_s, figures=Figures(books.instruments)) as watch:
        yield lambda: [
            Concern(tone=tones[each.severity], what=f"{each.check}: {each.subject}: {each.what}", remedy=each.remedy)
            for each in watch.list_findings()
        ]


def _kill_aggregator(folder: Path) -> str:
    """End the worker of the folder's aggregator as a crash would; its supervisor starts it again."""
    for file in (folder / "run").glob("aggregator-*.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            # Not of zero or less: these name whole groups of processes.
            if (pid := int(json.loads(file.read_text())["child"])) <= 0:
                continue
            os.kill(pid, signal.SIGKILL)
            return f"kill -9 {pid}: the aggregator is dead, and whatever stood in its memory is gone."
    return "No aggregator runs here at the moment."


def write_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
