"""`fedlog worker`: runs an actor and keeps it alive."""

from __future__ import annotations

from dataclasses import replace

import typer

from ops.settings import Settings

app = typer.Typer(help="An actor, kept alive: selector, aggregator, privacy; or a shard worker.", no_args_is_help=True)


@app.command()
def selector(ctx: typer.Context) -> None:
    """Grant leases: who may train, how many at a time, for how long."""
    _supervise("selector", ctx.obj)


@app.command()
def aggregator(ctx: typer.Context) -> None:
    """Admit updates, fill rounds, publish versions."""
    _supervise("aggregator", ctx.obj)


@app.command()
def privacy(ctx: typer.Context) -> None:
    """Charge each round before it is published, and withhold what would pass the budget."""
    _supervise("privacy", ctx.obj)


@app.command()
def shard(ctx: typer.Context) -> None:
    """Measure and add the bodies of tasks with shards, so that the aggregator need not."""
    _supervise("shard", ctx.obj)


def _supervise(actor: str, settings: Settings) -> None:
    from ops.processes.supervisor import Supervisor

    # The servers are settled once: a worker that starts again must not find another broker in the folder.
    Supervisor(actor, replace(settings, bootstrap_servers=settings.servers())).run()
