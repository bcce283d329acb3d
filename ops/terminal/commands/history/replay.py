"""`fedlog replay`: fold the log from its first event and compare the result with what was published."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.console import say, say_json
from ops.opening import find_epoch_keys, find_operator, list_partitions, load_key, open_log_or_export
from ops.operator import tasks
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles
from schemas.topics import partition_of

if TYPE_CHECKING:
    pass

SHOWN_MAX = 20


def replay(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Option(help="Replay the partition of this task only.")] = None,
    to: Annotated[
        int | None,
        typer.Option(metavar="VERSION", min=0, help="Stop at this version of the task, or of every task."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Recompute every sum and every model from the bodies.")] = False,
    from_files: FromFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fold every journal from its first event, with --full recompute every version; exit 1 and name what differs."""
    from ops.audit.findings import Findings
    from ops.audit.replay import Anchor, Audit, Target

    began_s = time.monotonic()
    key = load_key(ctx.obj)
    # Two keys: who said it is told by a public one, and noise can be drawn again with the secret one alone.
    noise = key.find_noise if key else None
    anchor = Anchor(operator=find_operator(ctx.obj), noise=noise, epochs=find_epoch_keys(ctx.obj))
    target = None if to is None else Target(to, task)
    findings = Findings()
    with open_log_or_export(ctx.obj, from_files) as log:
        for partition in list_partitions(log) if task is None else [partition_of(task, log.partitions)]:
            audit = Audit(log, partition, anchor=anchor, full=full, to=target)
            findings += audit.run()
            # A difference comes first: a damaged journal may be the reason why the task is missing.
            if task is not None and not findings.differences:
                tasks.require(audit.state.tasks, task)
    report = {**findings.plain(), "seconds": round(time.monotonic() - began_s, 2)}
    # A program reads the exit code and the object; the list of differences is in it already.
    if as_json:
        say_json(report)
        if findings.differences:
            raise typer.Exit(1)
        return
    _print_report(report, full=full, to=to)
    if findings.differences:
        raise ConsoleError("\n".join(_list_differences(report["differences"])))
    say(f"Replay: {findings.verdict}")


def _print_report(report: dict[str, Any], *, full: bool, to: int | None) -> None:
    say(f"{report['events']} events in {report['decisions']} decisions folded in {report['seconds']} s.")
    if to is not None:
        say(f"Folded up to: {', '.join(report['reached']) or 'no version'}; the aggregator's journal only.")
    if full:
        say(f"Recomputed from bodies: {report['sums']} sums, {report['models']} models; {report['charges']} charges.")
    for name in report["unchecked"]:
        say(f"Not checked: {name}")


def _list_differences(differences: list[str]) -> list[str]:
    # One damaged record can make every later one differ, and the first ones tell which it was.
    more = len(differences) - SHOWN_MAX
    lines = [f"Replay: {len(differences)} {'difference' if len(differences) == 1 else 'differences'}."]
    return [*lines, *differences[:SHOWN_MAX], *([f"And {more} more; --json lists all."] if more > 0 else [])]
