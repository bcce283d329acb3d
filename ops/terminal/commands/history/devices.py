"""`fedlog devices`: who takes part in a task, how often, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, number, say, say_json, table
from ops.opening import open_log_or_export, require_operator
from ops.operator import tasks
from ops.terminal.commands.history.query import HistoryPath, open_answers, require_duckdb, say_until
from ops.terminal.completing import complete_task
from ops.terminal.errors import ConsoleError
from ops.terminal.fitting import say_brief
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from pathlib import Path

    from ops.history.tables.answers import Answer
    from ops.history.tables.explaining import Part
    from ops.settings import Settings

SHOWN = 40
# Of an answer to people: digits that tell two devices apart, and columns that fit a screen.
_SHORT = {"staleness_mean": "staleness", "share_of_devices": "of devices", "running": "it runs", "running_at": "said"}


def devices(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", autocompletion=complete_task, help="Name of the task.")],
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show so many devices.")] = SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, with every device.")] = False,
    outliers: Annotated[
        bool, typer.Option("--outliers", help="Whose updates are unlike the others', from the bodies in the log.")
    ] = False,
    file: HistoryPath = None,
    from_files: FromFiles = None,
) -> None:
    """Who takes part in a task: by cohort and by device, leases, updates, staleness, share; how check-ins ended."""
    if outliers:
        _say_outliers(ctx.obj, task, from_files=from_files, limit=limit, as_json=as_json)
        return
    require_duckdb()
    from ops.history.tables import explaining

    with open_answers(ctx.obj, file=file, from_files=from_files) as answers:
        parts = explaining.list_devices(answers, task)
    if as_json:
        say_json({part.title.replace("-", ""): part.to_json() for part in parts})
        return
    for part in parts:
        _say(part, limit=limit)
    # The log counts check-ins by reason and keeps no list of them, so that a device without a lease is in no row.
    note("Check-ins are only counted: a device that never had a lease is in no row.")
    if any(part.title == "production" and part.answer.rows for part in parts):
        note("What runs in production is what devices say of themselves, with the check-in of their newest lease.")
    say_until(parts[0].answer.until_ms)


def _say_outliers(settings: Settings, task: str, *, from_files: Path | None, limit: int, as_json: bool) -> None:
    from ops.audit.outliers.reading import judge_devices

    with open_log_or_export(settings, from_files) as log:
        created = tasks.find_view(log, task).created
        if created is None:
            raise ConsoleError(f"The creation of {task!r} cannot be read, and without it no update of it.")
        found, lost = judge_devices(log, created, operator=require_operator(settings))
    if as_json:
        say_json({"task": task, "rounds_lost": lost, "devices": [one.to_json() for one in found]})
        return
    head = ("device", "rounds", "outlying", "distance", "norm", "cosine", "to its past", "z", "")
    rows = [
        (
            *(f"{one.device[:12]}…", one.rounds, one.outlying),
            *(number(value, 3) for value in (one.distance, one.norm, one.cosine, one.cosine_past, one.z)),
            "stands out" if one.is_outlier else "",
        )
        for one in found[:limit]
    ]
    table(head, rows)
    if lost:
        note(f"{lost} rounds are not in it: their bodies have been deleted.")
    if any(one.is_outlier for one in found):
        note("Devices with rare data stand out as well: look before you `fedlog revoke` one.")


def _say(part: Part, *, limit: int) -> None:
    rows = part.answer.rows
    say(f"{part.title}{'' if rows else ': none yet'}")
    if rows:
        say_brief(_shorten(part.answer, limit=limit))
    if len(rows) > limit:
        note(f"The {limit} busiest of {len(rows):,}; --limit shows more, --json all.")
    say("")


def _shorten(answer: Answer, *, limit: int) -> Answer:
    rows = [
        tuple(_format(name, value) for name, value in zip(answer.columns, row, strict=True))
        for row in answer.rows[:limit]
    ]
    return replace(answer, columns=[_SHORT.get(name, name) for name in answer.columns], rows=rows)


def _format(name: str, value: object) -> object:
    # A share of six digits says no more than one of three, and twelve digits tell two devices apart.
    match name, value:
        case _, float():
            return round(value, 3)
        case "device", str():
            return f"{value[:12]}…"
        case "cohort", "":
            return "none"
        # The only version that a row of these tables can lack: devices claim what was never published.
        case "version", None:
            return "never published"
    return value
