"""`fedlog export-log`: copy journals and the topics beside them into files that `--from-files` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import note, say
from ops.opening import find_operator, load_key, open_log
from ops.terminal.errors import ConsoleError, require_partition
from schemas.topics import partition_of


def export_log(
    ctx: typer.Context,
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="New or empty folder for the files.")],
    task: Annotated[
        list[str] | None, typer.Option(help="Export the partition of this task only; may be repeated.")
    ] = None,
    partition: Annotated[
        list[int] | None,
        typer.Option(help="Export this partition only; may be repeated.", min=0),
    ] = None,
    bodies: Annotated[
        bool, typer.Option("--bodies", help="Include updates, bodies and models, for a full replay.")
    ] = False,
    everything: Annotated[bool, typer.Option("--all", help="Include all topics but partials and snapshots.")] = False,
) -> None:
    """Write journals, tasks, evaluations and published into files; with the operator's key also signed heads."""
    from ops.audit.ancestry import find_parents_elsewhere
    from ops.audit.export import CHECKPOINT, select_topics, write_export
    from ops.audit.findings import Finding

    # Before a log is opened: files of two exports side by side would not agree with each other.
    if to.exists() and any(to.iterdir()):
        raise ConsoleError(f"{to} is not empty; name a new folder.", exit_code=2)
    topics = select_topics(bodies=bodies or everything, inputs=everything)
    key, operator = load_key(ctx.obj), find_operator(ctx.obj)
    with open_log(ctx.obj) as log:
        for number in partition or ():
            require_partition(log, number)
        named = {*(partition or ()), *(partition_of(name, log.partitions) for name in task or ())}
        chosen = named or {*range(log.partitions)}
        parents = find_parents_elsewhere(log, chosen, operator=operator)
        for number, (parent, child) in sorted(parents.items()):
            note(f"Partition {number} is taken along: {parent!r}, which {child!r} carries on from, lives there.")
        taken = sorted(chosen | parents.keys())
        export = write_export(log, taken, topics=topics, folder=to, key=key or operator)
    for report in export.reports:
        if report.fault is not None:
            # A damaged journal is exported all the same, because an auditor needs to see it.
            note(f"Exported with its fault: {Finding(report.place, report.offset, report.fault)}.")
    if export.is_signed:
        note(f"{to / CHECKPOINT} holds the signed head of every journal; keep a copy of it in another place.")
    if operator is None:
        note(
            "Whom to believe was not known, and a stranger's announcement may have ended `published` here early: name "
            "the operator's public key with --operator-public-key."
        )
    records = sum(report.records for report in export.reports)
    say(f"{records} journal records, {len(export.parts)} topic partitions in {to}.")
