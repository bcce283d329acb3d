"""`fedlog doctor`: what is wrong with the deployment, and what to do about each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import note, say, say_json


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    prometheus: Annotated[
        Path | None,
        typer.Option("--prometheus", metavar="FILE", help="Write counts of findings there, as metrics in text."),
    ] = None,
    waiting_s: Annotated[
        float,
        typer.Option(
            "--waiting-s", help="How long a record may wait for its actor; for the history half as long.", min=0
        ),
    ] = 60.0,
    hanging_s: Annotated[float, typer.Option("--hanging-s", help="How long a transaction may be open.", min=0)] = 30.0,
) -> None:
    """Look at brokers, topics, rights, clocks, disks, actors, journals, keys, history and certificates.

    Exit 1 with an error, 5 with nothing worse than warnings, else 0. It changes nothing.
    """
    from ops.doctor.checks import CHECKS, check_all
    from ops.doctor.facts import Limits
    from ops.doctor.findings import Severity, find_exit_code
    from ops.doctor.gathering import gather
    from ops.logging_setup import set_up_logging

    # What clients say of a broker that is away belongs to stderr, beside the findings.
    set_up_logging(as_json=False)
    limits = Limits(waiting_s=waiting_s, behind_s=waiting_s / 2, hanging_s=hanging_s)
    facts = gather(ctx.obj, limits)
    findings = check_all(facts, limits)
    if prometheus is not None:
        from ops.doctor.exposition import write_metrics

        write_metrics(prometheus, facts, findings=findings)
    counts = {severity: sum(found.severity is severity for found in findings) for severity in Severity}
    if as_json:
        families = [family.FAMILY for family in CHECKS]
        say_json({**counts, "checks": families, "findings": [found.plain() for found in findings]})
    for found in () if as_json else findings:
        say(f"{found.severity.value:8}{found.check}: {found.subject}: {found.what}")
        say(f"        do: {found.remedy}")
    if not as_json and not findings:
        say(f"Nothing is wrong, as far as {len(CHECKS)} families of checks see.")
    elif not as_json:
        note(", ".join(f"{severity.value}s: {count}" for severity, count in counts.items() if count) + ".")
    raise typer.Exit(find_exit_code(findings))
