"""`fedlog demo`: one training run from start to end on an embedded Kafka, with a crash and a replay."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import typer

from ops.console import number, say, say_json
from ops.terminal.commands.serving.gateway import require_gateway
from ops.terminal.errors import ConsoleError
from ops.terminal.options import NoPage
from schemas.errors import EXIT_USAGE

ACCURACY_PROMISED = 0.90


def demo(
    ctx: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Keep everything running afterwards.")] = False,
    no_page: NoPage = False,
    gateway: Annotated[
        bool,
        typer.Option(
            "--gateway", help="Devices enrol, seal what they send, and see only a gateway, which is killed too."
        ),
    ] = False,
    tier: Annotated[
        str, typer.Option(help="masked: two helpers take part, one of which is killed too; without noise.")
    ] = "plain",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end, progress on stderr.")
    ] = False,
) -> None:
    """Train digits on 200 simulated devices with privacy, kill the aggregator, prove by replay that nothing is lost."""
    from ops.logging_setup import set_up_logging
    from ops.processes.demo import Demo, suggest_next
    from ops.processes.panel import View

    if tier not in ("plain", "masked"):
        raise ConsoleError(f"--tier {tier}: takes plain or masked.", exit_code=EXIT_USAGE)
    # The demo tells its own story; structured log lines would bury it.
    set_up_logging(as_json=False, level="warning")
    if gateway:
        require_gateway()
    view = View(to_stderr=as_json)
    report = Demo(replace(ctx.obj), keep=keep, view=view, has_page=not no_page, has_gateway=gateway, tier=tier).run()
    if as_json:
        say_json(report)
    else:
        _print_report(report)
    suggest_next(ctx.obj, keep=keep)
    # Scripts run the demo as an acceptance test, so a promise that fails is an exit code.
    if report["replay"] != "identical":
        raise ConsoleError(f"The replay is not identical: {report['replay']}")
    if tier == "masked" and not report["helper_kills"]:
        raise ConsoleError("No helper was killed: the task was over before.")
    if gateway and not report["gateway_kills"]:
        raise ConsoleError("The gateway was not killed: the task was over before.")
    if (report["accuracy"] or 0) < ACCURACY_PROMISED or not report["crashes_survived"]:
        raise ConsoleError(
            f"The demo ended with accuracy {report['accuracy']} and {report['crashes_survived']} survived crashes."
        )


def _print_report(report: dict[str, Any]) -> None:
    say("")
    say(
        f"Test accuracy {number(report['accuracy'], 3)} after {report['versions']} versions and "
        f"{report['updates_admitted']} updates ({report['updates_refused']} refused) in {report['seconds']} s; "
        f"the task halted because of {report['halted']}."
    )
    if report["tier"] == "sealed":
        say("Every update was sealed to a key of the aggregator, which is deleted an hour after its last use.")
    if report["epsilon"] is None:
        say(f"No privacy was spent, because no noise was drawn: aggregation only ({report['tier']}).")
    else:
        spent = f"epsilon {number(report['epsilon'], 3)} at delta {number(report['delta'])}"
        say(f"Privacy spent: {spent} for each device.")
    if report["crashes_survived"]:
        say(
            f"The aggregator was killed with {report['buffer_at_kill']} updates in its buffer and recovered in "
            f"{report['recovery_seconds']:.1f} s."
        )
    say(
        f"Replayed {report['events_replayed']} events from the first: {report['sums_recomputed']} sums and "
        f"{report['models_recomputed']} models recomputed from the bodies: {report['replay']}."
    )
