"""`fedlog drift`: how far the answers of a measure task have moved, by PSI and KS; exit code 1 where they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, number, say_json, table
from ops.opening import open_log_or_export
from ops.operator import tasks
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from ops.history.task_view import TaskView
    from ops.operator.releasing.drifting import Comparison
    from schemas.policy import Drift


def drift(
    ctx: typer.Context,
    task: Annotated[str, typer.Argument(metavar="TASK", help="A measure task whose devices answer a histogram.")],
    reference: Annotated[int, typer.Option(help="The version that others are compared with.", min=1)] = 1,
    against: Annotated[
        str, typer.Option(metavar="TASK", help="Take the reference from this task: another time, or another cohort.")
    ] = "",
    statistic: Annotated[str, typer.Option(help="The statistic that is a histogram.")] = "",
    psi: Annotated[float | None, typer.Option(help="From which PSI on it is drift; else the policy's.", min=0)] = None,
    ks: Annotated[float | None, typer.Option(help="From which KS distance on; else the policy's.", min=0)] = None,
    from_files: FromFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per version.")] = False,
) -> None:
    """Compare a measure task's histograms with a reference. Exit code 1 where the newest version has drifted."""
    from ops.operator.releasing.drifting import compare_version, read_answers

    with open_log_or_export(ctx.obj, from_files) as log:
        view = tasks.find_view(log, task)
        other = tasks.find_view(log, against) if against else view
        asked = _find_rules(view, statistic=statistic, psi=psi, ks=ks)
        # Read once: it is the same for all of them.
        first = read_answers(log, other, version=reference, asked=asked)
        later = [version for version in sorted(view.published) if version > (0 if against else reference)]
        found = [
            comparison
            for version in later
            for comparison in compare_version(
                view,
                read_answers(log, view, version=version, asked=asked),
                version=version,
                reference=first,
                asked=asked,
            )
        ]
    if not found:
        note(f"{task!r} has no version to compare with version {reference} of {against or task!r} yet.")
        return
    for each in found if as_json else ():
        say_json({"task": task, **each.to_json()})
    if not as_json:
        _print(found)
    # Older versions are history; a scheduler acts on what is so now.
    newest = max(later)
    if any(each.is_drift for each in found if each.version == newest):
        raise ConsoleError(f"Version {newest} of {task!r} has drifted from version {reference} of {against or task!r}.")


def _find_rules(view: TaskView, *, statistic: str, psi: float | None, ks: float | None) -> Drift:
    """The policy's table [drift], or one without cohorts, with what the caller says otherwise."""
    from msgspec.structs import replace

    from schemas.policy import Drift

    asked = (view.created.policy.drift if view.created else None) or Drift()
    # A statistic that the policy does not watch has no cohorts that anybody could know.
    if statistic and statistic != asked.statistic:
        asked = Drift(statistic=statistic)
    return replace(asked, psi_max=asked.psi_max if psi is None else psi, ks_max=asked.ks_max if ks is None else ks)


def _print(found: list[Comparison]) -> None:
    # Where a policy names no cohorts, every line would say "all".
    is_split = any(each.cohort for each in found)
    head = ("version", *(("cohort", "beside") if is_split else ()), "PSI", "by chance", "KS", "by chance", "drift")
    table(head, [_format(each, is_split=is_split) for each in found])


def _format(one: Comparison, *, is_split: bool) -> tuple[object, ...]:
    told = (one.psi, one.psi_by_chance, one.ks, one.ks_by_chance)
    where = (one.cohort or "all", "reference" if one.kind == "drift" else "others") if is_split else ()
    return (one.version, *where, *(number(value, 3) for value in told), "yes" if one.is_drift else "no")
