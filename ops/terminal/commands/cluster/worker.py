"""`fedlog worker`: runs an actor, or a shard worker, and keeps it alive. One command a row of `actors.wiring`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import typer

from actors.wiring import ROLES
from ops.opening import open_log
from ops.settings import Settings

if TYPE_CHECKING:
    from actors.keys import RoleKey

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
    from ops.operator.deployments import open_role_key
    from ops.processes.supervisor import Supervisor
    from streams.retry import retry_until_available

    # The servers are settled once: a worker that starts again must not find another broker in the folder.
    settled = settings.find_cluster()

    def find_key() -> RoleKey:
        # The key of this role alone goes to the worker: its process never sees the operator's.
        with open_log(settled) as log:
            return retry_until_available(partial(open_role_key, settled, log, role=actor))

    Supervisor(actor, settled, find_key=find_key).run()


app = make_app()
