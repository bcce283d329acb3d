"""`fedlog demo`: the main job, end to end, on an embedded Kafka."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from ops.console import number, say, say_json
from ops.terminal.errors import ConsoleError

ACCURACY_PROMISED = 0.90


def demo(
    ctx: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave broker and data for a closer look.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end; progress on stderr.")] = False,
) -> None:
    """Train handwritten digits on 200 devices with privacy, kill the aggregator, and prove that nothing was lost."""
    from ops.logging_setup import set_up_logging
    from ops.processes.demo import Demo, told_next
    from ops.processes.demo_view import View

    set_up_logging(as_json=False, level="warning")
    report = Demo(replace(ctx.obj), keep=keep, view=View(to_stderr=as_json)).run()
    if as_json:
        say_json(report)
    else:
        _tell(report)
    told_next(ctx.obj, keep=keep)
    if report["replay"] != "identical":
        raise ConsoleError(f"The replay is not identical in all: {report['replay']}")
    if (report["accuracy"] or 0) < ACCURACY_PROMISED or not report["crashes_survived"]:
        raise ConsoleError(
            f"The demo ended at accuracy {report['accuracy']}, {report['crashes_survived']} kills survived."
        )


def _tell(report: dict[str, Any]) -> None:
    say("")
    say(
        f"Test accuracy {number(report['accuracy'], 3)} after {report['versions']} versions and "
        f"{report['updates_admitted']} updates ({report['updates_refused']} refused) in {report['seconds']} s; "
        f"the task halted: {report['halted']}."
    )
    say(f"Privacy spent: epsilon {number(report['epsilon'], 3)} at delta {number(report['delta'])} for each device.")
    if report["crashes_survived"]:
        say(
            f"The aggregator was killed with {report['buffer_at_kill']} updates in its buffer and was back after "
            f"{report['recovery_seconds']:.1f} s."
        )
    say(
        f"Replay of {report['events_replayed']} events from the first: {report['sums_recomputed']} sums and "
        f"{report['models_recomputed']} models recomputed from the bodies: {report['replay']}."
    )
