"""`fedlog report`: a task as one page in one file, for people who were not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say
from ops.opening import find_epoch_keys, find_operator, load_key, open_log_or_export
from ops.settings import Settings
from ops.terminal.commands.history.query import HistoryPath, open_answers, require_duckdb
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles
from schemas.topics import partition_of

if TYPE_CHECKING:
    from ops.web.report.verdict import Verdict


def report(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", autocompletion=complete_task, help="Name of the task.")],
    html: Annotated[Path, typer.Option(metavar="FILE", help="Write the page there.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Replay the task's partition in full first, and say what was found.")
    ] = False,
    file: HistoryPath = None,
    from_files: FromFiles = None,
) -> None:
    """Write one page on a task: what was trained, on whom, how well, how privately, what went wrong, what was checked.

    The page needs no network and no script. It holds nothing of a private task that is for operators only.
    """
    _require_page()
    from ops.web.report.page import render
    from ops.web.report.questions import collect
    from ops.web.report.verdict import NOT_RUN

    with open_answers(ctx.obj, file=file, from_files=from_files) as answers:
        told = collect(answers, task)
    verdict = _replay(ctx.obj, task, from_files=from_files) if verify else NOT_RUN
    _write(html, render(told, verdict))
    say(f"{html}: {task}, {verdict.word}.")
    if not verify:
        note("With --verify every version is recomputed from the log first, and the page says so.")


def _require_page() -> None:
    """Raises ConsoleError, which says how to install it."""
    require_duckdb()
    try:
        import htpy  # noqa: F401 - whether they are there
        import starlette  # noqa: F401
    except ImportError as error:
        raise ConsoleError("A report needs more: pip install 'fedlog[serve]'.", exit_code=2) from error


def _replay(settings: Settings, task: str, *, from_files: Path | None) -> Verdict:
    from ops.audit.replay import Anchor
    from ops.web.report.verdict import run_replay

    key = load_key(settings)
    noise = key.find_noise if key else None
    anchor = Anchor(operator=find_operator(settings), noise=noise, epochs=find_epoch_keys(settings))
    with open_log_or_export(settings, from_files) as log:
        return run_replay(log, partition_of(task, log.partitions), anchor=anchor)


def _write(path: Path, page: str) -> None:
    # Beside it first: a report that somebody has open is never half a page.
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(page, encoding="utf-8")
    fresh.replace(path)
