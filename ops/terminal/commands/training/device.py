"""`fedlog device`: one real device on its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import note
from ops.logs import opened
from ops.terminal.commands.training.fleet import Progress


def device(
    ctx: typer.Context,
    task: Annotated[str, typer.Option(help="The task to take part in.")],
    state: Annotated[Path, typer.Option(metavar="FOLDER", help="Its key, its outbox and, by default, its data.npz.")],
    name: Annotated[str | None, typer.Option(help="Its name; drawn the first time when left out.")] = None,
    data: Annotated[
        str, typer.Option(metavar="MODULE:CALLABLE", help="The data plug point.")
    ] = "client_agent.learning.examples:folder_npz",
    cohort: Annotated[str, typer.Option(help="What it is counted among.")] = "",
    battery_percent: Annotated[int, typer.Option(help="As it says.", min=0, max=100)] = 100,
    charging: Annotated[bool, typer.Option(help="As it says.")] = True,
    unmetered: Annotated[bool, typer.Option(help="As it says.")] = True,
    idle: Annotated[bool, typer.Option(help="As it says.")] = True,
    updates: Annotated[int | None, typer.Option(help="Stop after so many outcomes.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="What it did, as one JSON object at the end.")] = False,
) -> None:
    """Run one device on its own folder until its task is over, or until Ctrl-C; it can be started again at any time."""
    from client_agent.device import Conditions
    from client_agent.running.foreground import DeviceOptions, run_device

    options = DeviceOptions(
        task=task,
        folder=state.resolve(),
        data=data,
        name=name,
        cohort=cohort,
        conditions=Conditions(battery_percent=battery_percent, charging=charging, unmetered=unmetered, idle=idle),
    )
    progress = Progress(f"device for {task}")
    with opened(ctx.obj) as log:
        try:
            run_device(
                log,
                options,
                is_done=lambda stats: (
                    progress.seen(stats).closed > 0
                    or (updates is not None and stats.admitted + stats.refused >= updates)
                ),
            )
        except KeyboardInterrupt:
            note("stopped; what is in the outbox is sent at the next start")
    progress.tell(as_json=as_json)
