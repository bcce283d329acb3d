"""`fedlog evaluate`: scores versions on held-out data."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import Annotated

import typer

from ops.console import note, say, say_json
from ops.opening import open_log
from ops.terminal.options import DIGITS, DataPlugin
from schemas.topics import PARTITIONS, partition_of


def evaluate(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as new versions come.")] = False,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    data: DataPlugin = DIGITS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a version.")] = False,
) -> None:
    """Score every version that was not scored yet on held-out data; goes on where it was."""
    from ops.services.evaluator import Evaluator, Missed

    partitions = range(PARTITIONS) if task is None else [partition_of(task)]
    with (
        open_log(ctx.obj) as log,
        closing(Evaluator(log, data=data, partitions=partitions, task=task)) as evaluator,
        suppress(KeyboardInterrupt),
    ):
        while True:
            for told in evaluator.step():
                if isinstance(told, Missed):
                    note(f"{told.task} version {told.version}: not scored. {told.reason}")
                elif as_json:
                    say_json({"task": told.task, "version": told.version, **told.metrics})
                else:
                    metrics = " ".join(f"{name} {value:.4f}" for name, value in told.metrics.items())
                    say(f"{told.task} version {told.version}: {metrics} ({told.samples} examples)")
            if not follow:
                return
            evaluator.wait(0.5)
