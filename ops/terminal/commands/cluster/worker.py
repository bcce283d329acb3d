"""`fedlog worker`: runs an actor, or a shard worker, and keeps it alive. One command a row of `actors.wiring`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import typer

from actors.wiring import ROLES
from ops.settings import Settings

SHARD = ("shard", "Measure and add the bodies of tasks with shards, so that the aggregator need not.")


def make_app() -> typer.Typer:
    """The commands, one a kind of worker."""
    names = ", ".join(ROLES)
    made = typer.Typer(help=f"An actor, kept alive: {names}; or a shard worker.", no_args_is_help=True)
    for name, summary in (*((role.name, role.summary) for role in ROLES.values()), SHARD):
        made.command(name, help=summary)(_make_command(name))
    return made


def _make_command(name: str) -> Callable[[typer.Context], None]:
    def supervise(ctx: typer.Context) -> None:
        _supervise(name, ctx.obj)

    return supervise


def _supervise(actor: str, settings: Settings) -> None:
    from ops.processes.supervisor import Supervisor

    # The servers are settled once: a worker that starts again must not find another broker in the folder.
    Supervisor(actor, replace(settings, bootstrap_servers=settings.servers())).run()


app = make_app()
