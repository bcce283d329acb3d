"""`fedlog drift`: how far the answers of a measure task have moved, by PSI and KS; exit code 1 where they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, number, say_json, table
from ops.opening import open_log_or_export
from ops.operator import tasks
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles
from schemas.errors import EXIT_USAGE

if TYPE_CHECKING:
    from ops.audit.outliers.drift import Drift, Histogram
    from ops.history.task_view import TaskView
    from streams.log import EventLog


def drift(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="A measure task whose devices answer a histogram.")],
    reference: Annotated[int, typer.Option(help="The version that others are compared with.", min=1)] = 1,
    against: Annotated[
        str, typer.Option(metavar="TASK", help="Take the reference from this task: another time, or another cohort.")
    ] = "",
    statistic: Annotated[str, typer.Option(help="The statistic that is a histogram.")] = "histogram",
    psi: Annotated[float, typer.Option(help="From which population stability index on it is drift.", min=0)] = 0.2,
    ks: Annotated[float, typer.Option(help="From which Kolmogorov-Smirnov distance on it is drift.", min=0)] = 0.1,
    from_files: FromFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per version.")] = False,
) -> None:
    """Compare a measure task's histograms with a reference. Exit code 1 where the newest version has drifted."""
    from ops.audit.outliers.drift import Bounds, judge

    with open_log_or_export(ctx.obj, from_files) as log:
        view = tasks.find_view(log, task)
        other = tasks.find_view(log, against) if against else view
        first = _read(log, other, version=reference, statistic=statistic)
        later = [version for version in sorted(view.published) if version > (0 if against else reference)]
        found = {
            version: judge(first, _read(log, view, version=version, statistic=statistic), bounds=Bounds(psi=psi, ks=ks))
            for version in later
        }
    if not found:
        note(f"{task!r} has no version to compare with version {reference} of {against or task!r} yet.")
        return
    for version, each in found.items() if as_json else ():
        say_json({"task": task, "version": version, **each.to_json()})
    if not as_json:
        head = ("version", "PSI", "by chance", "KS", "by chance", "drift")
        table(head, [_format(version, each) for version, each in found.items()])
    # Older versions are history; a scheduler acts on what is so now.
    newest = max(found)
    if found[newest].is_drift:
        raise ConsoleError(f"Version {newest} of {task!r} has drifted from version {reference} of {against or task!r}.")


def _format(version: int, one: Drift) -> tuple[object, ...]:
    told = (one.psi, one.psi_by_chance, one.ks, one.ks_by_chance)
    return (version, *(number(value, 3) for value in told), "yes" if one.is_drift else "no")


def _read(log: EventLog, view: TaskView, *, version: int, statistic: str) -> Histogram:
    from ops.audit.outliers.drift import Histogram
    from ops.operator import results
    from ops.operator.models import choose_version

    measure = view.created.policy.measure if view.created else None
    if measure is None or statistic not in measure.statistics:
        has = "measures nothing" if measure is None else f"answers {', '.join(measure.statistics)}"
        raise ConsoleError(f"{view.task!r} {has}: {statistic!r} is no statistic of it.", exit_code=EXIT_USAGE)
    result = results.read(log, view, version=choose_version(view, version))
    return Histogram(counts=result.statistics[statistic].astype("float64"), devices=result.members)
