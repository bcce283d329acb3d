"""`fedlog trace`: where the time of rounds and updates went, as lines or as spans for a collector."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json
from ops.terminal.commands.history.query import HistoryPath, open_answers, require_duckdb
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from ops.history.tracing.spans import Answers, Span

EVERY_S = 5.0
# What ended in the log before it was in the history, or is scored later, is asked for again.
OVERLAP_MS = 3_600_000


def trace(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="Of this task (default: of all).")] = "",
    number: Annotated[int, typer.Option("--round", metavar="N", help="Of this round alone.")] = -1,
    otlp: Annotated[
        str, typer.Option("--otlp", metavar="URL", help="Send spans there, as to http://localhost:4318.")
    ] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what ends from now on.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a span.")] = False,
    file: HistoryPath = None,
    from_files: FromFiles = None,
) -> None:
    """Show, or export by OTLP, where the time of rounds and updates went: one trace a round, one an update."""
    require_duckdb()
    from ops.history.tracing.otlp import Collector
    from ops.history.tracing.spans import list_spans

    if follow and from_files is not None:
        raise ConsoleError("--follow needs the log of a cluster: in files nothing goes on.", exit_code=2)
    collector = Collector(otlp) if otlp else None
    if follow:
        send = partial(_print, as_json=as_json, is_quiet=True) if collector is None else collector.send
        with suppress(KeyboardInterrupt):
            _follow(ctx, send, task=task, file=file)
        return
    with open_answers(ctx.obj, file=file, from_files=from_files) as answers:
        spans = list(list_spans(answers, task=task, number=number))
    if collector is not None:
        say(f"{collector.send(spans):,} spans sent.")
        return
    _print(spans, as_json=as_json)


def _follow(ctx: typer.Context, send: Callable[[list[Span]], object], *, task: str, file: HistoryPath) -> None:
    from ops.history.tracing.otlp import CollectorUnavailable

    seen: dict[str, int] = {}
    since_ms = time.time_ns() // 1_000_000
    while True:
        # Opened anew each time: where nobody else keeps the history, this is what brings it up to the log.
        with open_answers(ctx.obj, file=file, from_files=None) as answers:
            fresh = list(_list_fresh(answers, seen, task=task, since_ms=since_ms))
        try:
            send(fresh)
            seen.update((span.id, span.end_ms) for span in fresh)
        # One that restarts gets them with the next look.
        except CollectorUnavailable as error:
            note(str(error))
        newest_ms = max(seen.values(), default=since_ms)
        since_ms = max(since_ms, newest_ms - OVERLAP_MS)
        # What no look asks for any more need not be remembered.
        for span in [span for span, end_ms in seen.items() if end_ms < since_ms - OVERLAP_MS]:
            del seen[span]
        time.sleep(EVERY_S)


def _list_fresh(answers: Answers, seen: dict[str, int], *, task: str, since_ms: int) -> list[Span]:
    from ops.history.tracing.spans import list_spans

    return [span for span in list_spans(answers, task=task, since_ms=since_ms) if span.id not in seen]


def _print(spans: list[Span], *, as_json: bool, is_quiet: bool = False) -> None:
    from dataclasses import asdict

    for span in spans:
        if as_json:
            say_json(asdict(span))
            continue
        told = "" if span.parent else _describe(span)
        indent = "  " if span.parent else ""
        say(f"{indent}{span.name:10}{(span.end_ms - span.start_ms) / 1000:10.3f} s{told}")
    if not spans and not as_json and not is_quiet:
        say("Nothing has ended yet: no round and no lease.")


def _describe(span: Span) -> str:
    about = (f" {name.removeprefix('fedlog.')}={value}" for name, value in span.attributes.items())
    return "".join(about) + (f" ended: {span.error}" if span.error else "")
