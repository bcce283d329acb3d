"""`fedlog evaluate`: score versions on held-out data."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json
from ops.opening import open_log
from ops.operator.deployments import open_role_key
from ops.terminal.errors import ConsoleError
from ops.terminal.options import Accelerator, DataPlugin, make_allow_list
from schemas.errors import EXIT_USAGE
from schemas.events import VersionEvaluated
from streams.log import EventLog

if TYPE_CHECKING:
    from ops.services.evaluator import Evaluator


def evaluate(
    ctx: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep running and score new versions.")] = False,
    task: Annotated[str | None, typer.Option(help="Score this task only.")] = None,
    data: DataPlugin = "",
    accelerator: Accelerator = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per version.")] = False,
) -> None:
    """Score every version that has no score yet on the held-out data that its policy names.

    Exit code 1 where none of them could be scored.
    """
    from client_agent.learning.opening import choose_accelerator
    from ops.operator.tasks import check_name
    from ops.services.evaluator import Missed

    choose_accelerator(accelerator)

    if task is not None:
        check_name(task)
    elif data:
        # A score is a fact for good, and other tasks have other data.
        raise ConsoleError("--data names the data of one task: say which, with --task.", exit_code=EXIT_USAGE)
    scored = missed = 0
    with (
        open_log(ctx.obj) as log,
        closing(_open(ctx, log, data=data, task=task)) as evaluator,
        suppress(KeyboardInterrupt),
    ):
        while True:
            for result in evaluator.step():
                if isinstance(result, Missed):
                    missed += 1
                    # A version that cannot be scored is reported beside the results, and the others go on.
                    note(f"{result.task} version {result.version}: not scored. {result.reason}")
                else:
                    scored += 1
                    _print_score(result, as_json=as_json)
            if not follow:
                break
            evaluator.wait(0.5)
    if missed and not scored:
        raise ConsoleError(f"None of {missed} versions could be scored; the reasons are above.")


def _print_score(result: VersionEvaluated, *, as_json: bool) -> None:
    if as_json:
        say_json({"task": result.task, "version": result.version, **result.metrics})
        return
    metrics = " ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    say(f"{result.task} version {result.version}: {metrics} ({result.samples} examples)")


def _open(ctx: typer.Context, log: EventLog, *, data: str, task: str | None) -> Evaluator:
    from ops.services.evaluator import Evaluator

    key = open_role_key(ctx.obj, log, role="evaluator")
    return Evaluator(log, key=key, data=data, task=task, allowed=make_allow_list(ctx))
