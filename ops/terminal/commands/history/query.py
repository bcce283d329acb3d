"""`fedlog query`: SQL over everything that happened; `fedlog history`: keep its tables, rebuild, export them."""

from __future__ import annotations

import csv
import gc
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import Progress, note, say, say_json, table
from ops.opening import open_log, open_log_briefly, open_log_or_export
from ops.settings import HISTORY_FILE, Settings, SettingsError
from ops.terminal.errors import ConsoleError
from ops.terminal.fitting import say_table
from ops.terminal.options import FromFiles
from streams.log import LogUnavailable

if TYPE_CHECKING:
    from ops.history.tables.answers import Answer
    from ops.history.tables.live import LiveHistory
    from ops.history.tables.projector import Viewer
    from ops.history.tables.syncing import Synced
    from streams.log import EventLog

    Answers = Callable[..., Answer]

FOLLOW_CHECK_S, LEVELS_EVERY_S = 1.0, 15.0
HistoryPath = Annotated[
    Path | None, typer.Option("--file", metavar="FILE", help=f"The history (default: {HISTORY_FILE} in the folder).")
]
Parquet = Annotated[Path, typer.Option("--parquet", metavar="FOLDER", help="Folder for one file a table.")]

app = typer.Typer(
    help="Keep the history as tables, for `fedlog query`; whatever dies, each event is in them once.",
    no_args_is_help=True,
)


def query(
    ctx: typer.Context,
    sql: Annotated[str | None, typer.Argument(help="One SELECT, in DuckDB's SQL.")] = None,
    as_of: Annotated[
        str | None, typer.Option(metavar="TASK@VERSION|TIME", help="The tables as they were then (time: UTC).")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Every table and column, with its meaning.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per row.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header.")] = False,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the rows into this file.")] = None,
    file: HistoryPath = None,
    from_files: FromFiles = None,
) -> None:
    """Ask the history: tasks, rounds, updates, devices, leases, versions, the ledger, and every event behind them."""
    require_duckdb()
    if schema:
        _say_schema(as_json=as_json)
        return
    if sql is None:
        raise ConsoleError(
            "Ask something: fedlog query 'SELECT * FROM rounds'; --schema shows the tables.", exit_code=2
        )
    with open_answers(ctx.obj, file=file, from_files=from_files) as answers:
        found = answers(sql, as_of=as_of)
    # After the history is closed: writing a large file must not keep others out of it.
    if parquet is not None:
        from ops.history.tables.exporting import write_parquet

        write_parquet(found, parquet)
        note(f"{len(found.rows):,} rows in {parquet}.")
    else:
        _say(found, as_json=as_json, as_csv=as_csv)
    say_until(found.until_ms)


@app.command("sync")
def sync(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, and answer `fedlog query` meanwhile.")] = False,
    file: HistoryPath = None,
) -> None:
    """Take in what the log holds by now; with --follow also what is appended."""
    require_duckdb()
    from ops.history.tables.duckdb_file import HistoryFile
    from ops.history.tables.live import LiveHistory
    from ops.history.tables.syncing import make_identity
    from ops.history.tables.syncing import sync as take_in

    path = _find_path(ctx.obj, file)
    with open_log(ctx.obj) as log:
        viewer = _find_viewer(ctx.obj, log)
        if follow:
            progress = Progress("history")
            with LiveHistory(path, log, viewer=viewer, on_progress=partial(_tell, progress)) as live:
                _follow(live, ctx.obj)
            progress.finish(as_json=False)
            return
        with closing(HistoryFile(path, identity=make_identity(viewer))) as history:
            _say_synced(take_in(log, history, viewer=viewer), path)


@app.command("rebuild")
def rebuild(ctx: typer.Context, file: HistoryPath = None) -> None:
    """Build the history anew from the log, beside the old one, which it then replaces."""
    require_duckdb()
    from ops.history.tables.syncing import rebuild as build_anew

    # The old file is not even opened: it may be the one that cannot be.
    path = _find_path(ctx.obj, file)
    with open_log(ctx.obj) as log:
        _say_synced(build_anew(log, path, viewer=_find_viewer(ctx.obj, log)), path)


@app.command("export")
def export(ctx: typer.Context, parquet: Parquet, file: HistoryPath = None, from_files: FromFiles = None) -> None:
    """Write every table into a Parquet file of its name, for pandas, Spark or a lake."""
    require_duckdb()
    from ops.history.tables.catalogue import load_tables

    # Tables of two moments side by side would not fit each other.
    if parquet.exists() and any(parquet.iterdir()):
        raise ConsoleError(f"{parquet} is not empty; name a new folder.", exit_code=2)
    parquet.mkdir(parents=True, exist_ok=True)
    folder = parquet.resolve()
    with open_answers(ctx.obj, file=file, from_files=from_files, exports_to=folder) as answers:
        for name, count in _export(answers, list(load_tables()), folder=folder):
            say(f"{name}.parquet: {count:,} rows")


def _export(answers: Answers, names: list[str], *, folder: Path) -> Iterator[tuple[str, int]]:
    from ops.history.tables.duckdb_file import HistoryAnswers
    from ops.history.tables.exporting import write_parquet

    if isinstance(answers, HistoryAnswers):
        yield from answers.write_parquet(names, folder)
        return
    # The process that writes the history hands rows over, and goes on meanwhile: all are of the first moment.
    moment = answers("SELECT 1").position
    for name in names:
        found = answers(f"FROM {name}", as_of=str(moment))
        write_parquet(found, folder / f"{name}.parquet")
        yield name, len(found.rows)


def require_duckdb() -> None:
    """Raises ConsoleError, which says how to install it."""
    # An extra, because workers and devices need no database; looked for and not loaded, which takes a while, because
    # whoever asks the process that writes a history never needs it.
    if find_spec("duckdb") is None:
        raise ConsoleError("The history needs DuckDB: pip install 'fedlog[history]'.", exit_code=2)


# In the folder that only its owner may enter: who took part when is nobody else's business.
def _find_path(settings: Settings, file: Path | None) -> Path:
    return file or settings.open_folder() / HISTORY_FILE


def _find_viewer(settings: Settings, log: EventLog) -> Viewer:
    from ops.operator.deployments import find_viewer

    return find_viewer(settings, log)


@contextmanager
def open_answers(
    settings: Settings, *, file: Path | None, from_files: Path | None, exports_to: Path | None = None
) -> Iterator[Answers]:
    """What answers questions: a running writer, else the file, first brought up to the log where that is at hand."""
    asked = _open_answers(settings, file=file, from_files=from_files, exports_to=exports_to)
    with collecting_later(), asked as answers:
        yield answers


@contextmanager
def collecting_later() -> Iterator[None]:
    """Look for no garbage meanwhile: a question leaves none, and to look through all that it loads takes its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _open_answers(
    settings: Settings, *, file: Path | None, from_files: Path | None, exports_to: Path | None
) -> Iterator[Answers]:
    from ops.history.tables import serving

    # DuckDB lets nobody else in while a process writes, and who asks that process has no need to load it.
    if from_files is None and serving.is_served(path := _find_path(settings, file)):
        yield partial(serving.ask_writer, path)
        return
    from ops.history.tables import duckdb_file, live, syncing

    if from_files is not None:
        with (
            open_log_or_export(settings, from_files) as log,
            duckdb_file.make_transient(exports_to=exports_to) as history,
        ):
            syncing.sync(log, history, viewer=_find_viewer(settings, log))
            yield history
        return
    try:
        with open_log_briefly(settings) as log:
            # Every answer is up to date, and nobody has to think of a first step.
            viewer = _find_viewer(settings, log)
            found = live.open_or_find_writer(path, viewer=viewer, exports_to=exports_to)
            if found is None:
                yield partial(serving.ask_writer, path)
                return
            with closing(found) as history:
                syncing.sync(log, history, viewer=viewer)
                yield history
    # Without a log a history answers all the same: it says up to when it knows.
    except (SettingsError, LogUnavailable) as error:
        if not path.exists():
            raise
        note(f"{error}\nAsking {path} as it is.")
        with duckdb_file.open_for_questions(path, exports_to=exports_to) as answers:
            yield answers


def _follow(live: LiveHistory, settings: Settings) -> None:
    # Ctrl-C ends it, and what the log holds by then is taken in.
    with suppress(KeyboardInterrupt):
        # Only where somebody asks for them: a question over all tasks takes more memory than taking in does.
        if settings.metrics_port:
            _serve_levels(live, settings)
        while True:
            live.check(timeout_s=FOLLOW_CHECK_S)


def _serve_levels(live: LiveHistory, settings: Settings) -> None:
    from ops.history.levels import ASK, ServiceLevels
    from ops.history.tables.answers import QueryRefused

    levels = ServiceLevels()
    levels.instruments.serve(settings.metrics_host, settings.metrics_port)
    while True:
        # A question that takes too long must not end what everybody else asks.
        try:
            levels.show(live.ask(ASK))
        except QueryRefused as error:
            note(f"Service levels could not be shown: {error}")
        live.check(timeout_s=LEVELS_EVERY_S)


def _tell(progress: Progress, synced: Synced) -> None:
    progress.update({"rows": synced.rows})


def _say_synced(synced: Synced, path: Path) -> None:
    say(f"{synced.rows:,} new rows in {synced.seconds:.1f} s: {path}")


def _say(found: Answer, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        for row in found.rows:
            values = dict(zip(found.columns, row, strict=True))
            # What SQL calls JSON comes as text, and nobody wants JSON within JSON.
            for name, kind in zip(found.columns, found.types, strict=True):
                if kind == "JSON" and values[name] is not None:
                    values[name] = json.loads(values[name])
            say_json(values)
    elif as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found.columns)
        writer.writerows(found.rows)
    else:
        say_table(found)


def say_until(until_ms: int | None) -> None:
    """Up to when an answer knows."""
    if until_ms is None:
        note("The history is empty: nothing stands in the log yet.")
        return
    # The clock of the log, so that the same can be asked again as of that time.
    until = datetime.fromtimestamp(until_ms / 1000, UTC)
    note(f"Known up to {until:%Y-%m-%d %H:%M:%S}.{until_ms % 1000:03} UTC.")


def _say_schema(*, as_json: bool) -> None:
    from ops.history.tables.catalogue import load_tables

    for each in load_tables().values():
        if as_json:
            say_json({"table": each.name, "meaning": each.meaning, "columns": dict(each.columns)})
            continue
        say(f"{each.name}: {each.meaning}")
        table(("column", "meaning"), each.columns.items())
        say("")
