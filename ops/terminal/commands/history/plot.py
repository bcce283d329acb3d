"""`fedlog plot`: how tasks did, by version, upload and time; how stale, and who took part; or which came from which."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import say
from ops.terminal.commands.history.query import HistoryPath, open_answers, require_duckdb
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles


def plot(
    ctx: typer.Context,
    tasks: Annotated[list[str] | None, typer.Argument(metavar="TASK …", help="Tasks, in one picture.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .png, .svg or .pdf (default: TASK.png, or ancestry.png).")
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(help="versions, uploads, time, staleness or participation; repeatable (default: all)."),
    ] = None,
    metric: Annotated[str, typer.Option(help="Which score (default: the policy's target).")] = "",
    ancestry: Annotated[bool, typer.Option("--ancestry", help="Which task started from which, along time.")] = False,
    dark: Annotated[bool, typer.Option("--dark", help="For a dark page.")] = False,
    file: HistoryPath = None,
    from_files: FromFiles = None,
) -> None:
    """Draw tasks: their score by version, uploads and time, staleness and participation; or where they come from."""
    require_duckdb()
    from ops.history.plots import figures, series

    names = list(dict.fromkeys(tasks or ()))
    if bool(names) == ancestry:
        raise ConsoleError("Name a task, or several; or ask for --ancestry alone.", exit_code=2)
    if unknown := set(show or ()) - set(figures.PANELS):
        raise ConsoleError(f"--show {unknown.pop()}: takes one of {', '.join(figures.PANELS)}.", exit_code=2)
    path = out or Path(f"{'ancestry' if ancestry else names[0]}.png")
    # Before the log is read, which may take a while.
    figures.require_drawable(path)
    with open_answers(ctx.obj, file=file, from_files=from_files) as answers:
        if ancestry:
            lives, branches = series.read_lives(answers)
            figures.draw_ancestry(path, lives=lives, branches=branches, dark=dark)
        else:
            found = [series.read_series(answers, name, metric=metric) for name in names]
            figures.draw_series(found, path, panels=show or figures.PANELS, dark=dark)
    say(str(path))
