"""`fedlog device`: one real device on its own folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note
from ops.terminal.commands.training.progress import TrainingProgress
from ops.terminal.options import Accelerator, DataPlugin, LoadLimit, make_allow_list, read_public_keys
from ops.terminal.reaching import Gateway, GatewayCa, GatewayPin, find_gateway, open_road

if TYPE_CHECKING:
    from client_agent.links.requests import GatewayOptions
    from client_agent.running.foreground import DeviceOptions
    from client_agent.running.loop import Stats


Running = Annotated[int | None, typer.Option(metavar="VERSION", help="Which version runs in production here.", min=0)]
Battery = Annotated[int, typer.Option(help="Battery level that the device reports, in percent.", min=0, max=100)]


def device(
    ctx: typer.Context,
    task: Annotated[str, typer.Option(help="Task to take part in.")],
    state: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the device: key, outbox, data.npz.")],
    name: Annotated[str | None, typer.Option(help="Name of the device; random if left out.")] = None,
    data: DataPlugin = "",
    accelerator: Accelerator = "cpu",
    load_s: LoadLimit = 600.0,
    enrol: Annotated[
        str, typer.Option(metavar="TOKEN", help="Enrol first, with the token of `fedlog enrol token`.")
    ] = "",
    helper: Annotated[
        list[str] | None,
        typer.Option(metavar="HEX", help="A helper that you trust: only tasks that one masks are trained; repeatable."),
    ] = None,
    cohort: Annotated[str, typer.Option(help="Group that the device is counted in.")] = "",
    running: Running = None,
    battery_percent: Battery = 100,
    charging: Annotated[bool, typer.Option(help="Report the device as charging.")] = True,
    unmetered: Annotated[bool, typer.Option(help="Report the network as unmetered.")] = True,
    idle: Annotated[bool, typer.Option(help="Report the device as idle.")] = True,
    gateway: Gateway = "",
    gateway_ca: GatewayCa = None,
    gateway_pin: GatewayPin = "",
    updates: Annotated[int | None, typer.Option(help="Stop after this many answered updates.", min=1)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object at the end.")] = False,
) -> None:
    """Run one device until its task is over or until Ctrl-C. Start it again at any time: its folder keeps its state."""
    from client_agent.conditions import Conditions
    from client_agent.learning.opening import choose_accelerator
    from client_agent.running.foreground import DeviceOptions
    from schemas.identity.tokens import read_token

    options = DeviceOptions(
        task=task,
        folder=state.resolve(),
        data=data,
        name=name,
        cohort=cohort,
        running=running,
        allowed=make_allow_list(ctx),
        load_s=load_s,
        token=read_token(enrol) if enrol else None,
        helpers=frozenset(read_public_keys("--helper", helper)),
        conditions=Conditions(battery_percent=battery_percent, charging=charging, unmetered=unmetered, idle=idle),
    )
    choose_accelerator(accelerator)
    reached = find_gateway(gateway, ca_file=gateway_ca, pin=gateway_pin)
    _run(ctx, options, gateway=reached, updates=updates, as_json=as_json)


def _run(
    ctx: typer.Context, options: DeviceOptions, *, gateway: GatewayOptions | None, updates: int | None, as_json: bool
) -> None:
    from client_agent.outbox.outcomes import KeptOutcomes
    from client_agent.running.foreground import run_device
    from ops.operator.tasks import check_name

    task = options.task
    check_name(task)
    progress = TrainingProgress(f"device for {task}")

    def is_done(stats: Stats) -> bool:
        progress.follow(stats)
        # An update counts once it is answered: one that is only sent may still be lost.
        return stats.closed > 0 or (updates is not None and stats.admitted + stats.refused >= updates)

    kept = KeptOutcomes(options.folder, task)
    with open_road(ctx.obj, gateway, kept=kept) as open_link:
        try:
            run_device(open_link, options, is_done=is_done)
        except KeyboardInterrupt:
            # Ctrl-C is how a device is meant to end, so it is no error.
            note("Stopped. What is in the outbox is sent at the next start.")
    progress.end(task, as_json=as_json)
