"""`fedlog compare`: policies on one split, each with several seeds; a table with spread, pictures and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import note, number, say, say_json, table
from ops.terminal.commands.history.query import require_duckdb


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
    cells = [
        (
            one.policy,
            f"{one.metric} {number(one.score)} ({number(one.score_range[0])} … {number(one.score_range[1])})",
            number(one.versions),
            number(one.uploads),
            "never" if one.uploads_to_target is None else number(one.uploads_to_target),
            number(one.seconds),
        )
        for one in found
    ]
    columns = ("policy", f"score, {seeds} seeds", "versions", "uploads", "uploads to target", "virtual s")
    table(columns, cells)
    say(f"In {out}: {', '.join(path.name for path in files)}; the log of each run in {out / 'runs'}.")
