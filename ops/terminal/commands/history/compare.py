"""`fedlog compare`: policies on one split, each with several seeds; a table with spread, pictures and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, number, say, say_json, table
from ops.terminal.commands.history.query import require_duckdb

if TYPE_CHECKING:
    from ops.virtual.comparing import Spread

_COLUMNS = {
    "score": "score",
    "uploads to target": "uploads_to_target",
    "s to target": "seconds_to_target",
    "staleness": "staleness",
    "versions": "versions",
    "uploads": "uploads",
    "seconds": "seconds",
}


def compare(
    ctx: typer.Context,
    policies: Annotated[list[Path], typer.Argument(metavar="A.toml B.toml …", help="Files with policies.")],
    seeds: Annotated[int, typer.Option(help="How many seeds each is trained with, from 1 on.", min=1)] = 3,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="For tables, pictures and logs.")] = Path("compared"),
    devices: Annotated[int | None, typer.Option(help="Simulated devices (default: as expected).", min=1)] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="For all policies; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per policy.")] = False,
) -> None:
    """Train policies by virtual time on the same split, and show which does better, and by how much that varies."""
    require_duckdb()
    from ops.history.plots.figures import require_drawable
    from ops.logging_setup import set_up_logging
    from ops.virtual.comparing import Comparison, list_rows

    set_up_logging(as_json=False, level="warning")
    require_drawable(out / "compare.png")
    comparison = Comparison(ctx.obj, policies, out, devices=devices, changes=settings or [])
    found = comparison.train(seeds, say=note)
    rows, files = list_rows(found), comparison.write(found)
    if as_json:
        for row in rows:
            say_json(row)
        return
    # Without a target there is nothing to say of it, and the room is for what there is.
    named = [(title, name) for title, name in _COLUMNS.items() if any(getattr(one, name) for one in found)]
    cells = [(one.policy, *(_format(getattr(one, name)) for _, name in named)) for one in found]
    metric = ", ".join(sorted({one.metric for one in found}))
    table(("policy", *(metric if title == "score" else title for title, _ in named)), cells)
    say(f"Means of {seeds} seeds, with the least and the most. Time is virtual.")
    say(f"In {out}: {', '.join(path.name for path in files)}; the log of each run in {out / 'runs'}.")


def _format(spread: Spread | None) -> str:
    if spread is None:
        return "never"
    ends = (number(spread.least), number(spread.most))
    return number(spread.mean) if ends[0] == ends[1] else f"{number(spread.mean)} ({ends[0]} … {ends[1]})"
