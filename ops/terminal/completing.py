"""Names of tasks for the shell, which asks for them at a key: out of the folder's history, and never out of the log."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ops.history.tables.answers import Answer

_TASKS = "SELECT task FROM tasks ORDER BY created_at DESC"


def complete_task(ctx: typer.Context, incomplete: str) -> list[str]:
    """The tasks whose names begin so, the newest first; none where no history is at hand."""
    # Whoever presses a key must not read a traceback in the middle of a line, whatever is wrong.
    with contextlib.suppress(Exception):
        from ops import settings

        # The command line is not whole yet, so that nobody has settled it.
        named = {name: value for name, value in ctx.find_root().params.items() if name == "folder" and value}
        path = settings.resolve(named).folder / settings.HISTORY_FILE
        with _open(path) as ask:
            return [name for (name,) in ask(_TASKS).rows if name.startswith(incomplete)]
    return []


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Callable[[str], Answer]]:
    from ops.history.tables import serving

    if serving.is_served(path):
        yield partial(serving.ask_writer, path)
        return
    from ops.history.tables import duckdb_file

    with duckdb_file.open_for_questions(path) as answers:
        yield answers.ask
