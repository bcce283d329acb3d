"""`fedlog explain`: what a version is made of, and why. `fedlog diff`: how two versions differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import say, say_json
from ops.terminal.commands.history.query import HistoryPath, open_answers, require_duckdb, say_until
from ops.terminal.errors import ConsoleError
from ops.terminal.fitting import say_brief
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from ops.history.tables.explaining import Part

Named = Annotated[str, typer.Argument(metavar="TASK@VERSION", help="A version of a task, such as rings@12.")]


def explain(
    ctx: typer.Context,
    version: Named,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    file: HistoryPath = None,
    from_files: FromFiles = None,
) -> None:
    """Who is in a version, who was refused meanwhile and why, what it cost, how it does, and which records say so."""
    require_duckdb()
    from ops.history.tables import explaining

    task, number = _parse(version)
    with open_answers(ctx.obj, file=file, from_files=from_files) as answers:
        parts = explaining.explain(answers, task, version=number)
    _say(parts, as_json=as_json)


def diff(
    ctx: typer.Context,
    version: Named,
    other: Named,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    file: HistoryPath = None,
    from_files: FromFiles = None,
) -> None:
    """How two versions of a task differ: scores, members, staleness, weights, and what came between."""
    require_duckdb()
    from ops.history.tables import explaining

    (task, number), (of, second) = _parse(version), _parse(other)
    if of != task:
        raise ConsoleError("Two versions of one task, please: those of two tasks have nothing in common.", exit_code=2)
    with open_answers(ctx.obj, file=file, from_files=from_files) as answers:
        parts = explaining.compare(answers, task, version=number, other=second)
    _say(parts, as_json=as_json)


def _parse(named: str) -> tuple[str, int]:
    task, at, version = named.rpartition("@")
    # `isdecimal` takes the digits of every script, and `int` reads them all.
    if not at or not version.isdecimal() or len(version) > 18:
        raise ConsoleError(f"{named!r}: name a version of a task as TASK@VERSION, such as rings@12.", exit_code=2)
    return task, int(version)


def _say(parts: list[Part], *, as_json: bool) -> None:
    if as_json:
        say_json({part.title.replace(" ", "_"): part.to_json() for part in parts})
        return
    for part in parts:
        # A title without rows is an answer too: nobody was refused.
        say(f"{part.title}{'' if part.answer.rows else ': nothing'}")
        if part.answer.rows:
            say_brief(part.answer)
        say("")
    say_until(parts[0].answer.until_ms)
