"""`fedlog broker`: start and stop the embedded Kafka, and ask whether it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.broker_state import CLIENTS, find_running, read_state
from ops.console import note, say
from ops.settings import Settings
from ops.terminal.errors import ConsoleError

app = typer.Typer(help="The embedded Kafka: start, stop, status, prepare.", no_args_is_help=True)


Secure = Annotated[
    bool,
    typer.Option(
        "--secure", help="Behind doors: TLS, a password for each principal (SCRAM-SHA-512), and least rights."
    ),
]


@app.command()
def start(ctx: typer.Context, secure: Secure = False) -> None:
    """Start the embedded Kafka and create fedlog's topics; one that runs already is left as it is."""
    from ops.processes import broker
    from ops.terminal.commands.cluster.topics import create_topics

    ctx.obj.open_folder()
    before, running = read_state(ctx.obj.broker_folder), find_running(ctx.obj.broker_folder)
    handle = broker.start(ctx.obj.broker_folder, secure=secure)
    if running is not None:
        note("It runs already, and was left as it is.")
    say(f"Kafka answers at {handle.bootstrap_servers} (pid {handle.pid}, data in {ctx.obj.broker_folder})")
    if before is not None and before.port != handle.port:
        # What knows the old address waits for a broker that is away, and would do so for ever.
        note(
            f"Another program has taken its last address, {before.bootstrap_servers}: start again what still runs with "
            "that one (workers, evaluators, devices)."
        )
    # Where other servers are named, the topics there are the business of `fedlog topics create`.
    if ctx.obj.bootstrap_servers in ("", handle.bootstrap_servers):
        create_topics(ctx.obj)
        if handle.authority:
            _open_doors(ctx.obj)
            return
    note(f"It asks for a password, which every command with the same --folder finds in {ctx.obj.broker_folder}.")
    note("Its data survive the death of processes, not of the machine. `fedlog broker stop` stops it.")


@app.command()
def prepare() -> None:
    """Fetch Kafka and make its starts quicker, once for this user; `make setup` does it."""
    from ops.processes import broker

    made = broker.prepare()
    say("Kafka is fetched, and will start sooner from now on." if made else "Kafka is prepared already.")


@app.command()
def stop(ctx: typer.Context) -> None:
    """Stop the embedded Kafka; its data stay."""
    from ops.processes import broker

    stopped = broker.stop(ctx.obj.broker_folder)
    say("Kafka has stopped; its data stay." if stopped else f"No Kafka runs in {ctx.obj.broker_folder}.")


@app.command()
def status(ctx: typer.Context) -> None:
    """Say whether the embedded Kafka runs, and where; exit 1 when it does not."""
    handle = find_running(ctx.obj.broker_folder)
    if handle is None:
        raise ConsoleError(f"No Kafka runs in {ctx.obj.broker_folder}. `fedlog broker start` starts one.")
    doors = ", behind doors" if handle.authority else ""
    say(f"running at {handle.bootstrap_servers} (pid {handle.pid}){doors}")


def _open_doors(settings: Settings) -> None:
    from ops.doors.keeping import open_doors
    from ops.doors.secured import Doors

    open_doors(settings.kafka(), passwords=Doors(settings.broker_folder).list_passwords())
    clients = settings.broker_folder / CLIENTS
    note(
        f"It asks who comes: {clients} has a file for each principal (`set -a; . {clients}/selector.env`).\n"
        "Commands with the same --folder come as its super user, or as the one whom --sasl-username names; "
        "`fedlog acl check` proves their rights."
    )
