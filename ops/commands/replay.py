"""`fedlog replay`: fold the log from its first event and compare it with what was published."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from ops.console import ConsoleError, say, say_json
from ops.logs import FromFiles, partitions_of, reading
from schemas.topics import partition_of


def replay(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Option(help="Only the partition of this task.")] = None,
    to: Annotated[int | None, typer.Option(metavar="VERSION", help="Recompute no version past this one.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Recompute every sum and every model from the bodies.")] = False,
    from_files: FromFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Rebuild every version from the log; exit 1 and name the first difference."""
    from actors import keys
    from ops.audit import Audit, Findings

    began_s = time.monotonic()
    key_file = ctx.obj.operator_key_file
    key = keys.load(key_file) if key_file.exists() else None
    found = Findings()
    with reading(ctx.obj, from_files) as log:
        for partition in partitions_of(log) if task is None else [partition_of(task)]:
            found += Audit(log, partition, key=key, full=full, to=to).run()
    report = {
        "replay": found.verdict,
        "events": found.events,
        "decisions": found.decisions,
        "sums": found.sums,
        "models": found.models,
        "charges": found.charges,
        "unchecked": found.unchecked,
        "differences": [str(difference) for difference in found.differences],
        "seconds": round(time.monotonic() - began_s, 2),
    }
    if as_json:
        say_json(report)
    else:
        _tell(report, full)
    if found.differences:
        raise ConsoleError(found.verdict)


def _tell(report: dict[str, object], full: bool) -> None:
    say(f"{report['events']} events in {report['decisions']} decisions folded in {report['seconds']} s.")
    if full:
        say(f"Recomputed from bodies: {report['sums']} sums, {report['models']} models; {report['charges']} charges.")
    for name in report["unchecked"] or ():  # type: ignore[attr-defined]
        say(f"Not checked, its bodies are no longer in the log: {name}")
    say(f"Replay: {report['replay']}")
