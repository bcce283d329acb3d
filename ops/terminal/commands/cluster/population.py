"""`fedlog population`: what the devices of a population may spend over all of its tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.console import note, number, say_json, table
from ops.opening import find_operator, open_log, open_log_or_export, require_key
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles

app = typer.Typer(help="Populations: one privacy budget over all of their tasks.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="POPULATION", help="First half of the names of its tasks.")]
KINDS = ("open", "enrolled")


@app.command()
def budget(
    ctx: typer.Context,
    name: Name,
    rho_max: Annotated[float, typer.Option(help="zCDP that no device may pass, over all tasks; never raised again.")],
    identity: Annotated[str, typer.Option(help="open counts keys of devices, enrolled counts subjects.")] = "open",
    wait_s: Annotated[float, typer.Option(help="Seconds to wait until it is in force.")] = 30.0,
) -> None:
    """Promise the devices of a population that all of its tasks together cost them no more than this."""
    from ops.operator.populations import budgets

    if identity not in KINDS:
        raise ConsoleError(f"No identity {identity!r}: --identity takes one of {', '.join(KINDS)}.", exit_code=2)
    # The operator's own key: no server may promise in the operator's name.
    key = require_key(ctx.obj)
    with open_log(ctx.obj) as log:
        wanted = budgets.make_budget(log, name, rho_max=rho_max, identity=identity, key=key)
        budgets.set_budget(log, wanted, key=key, wait_s=wait_s)
    note(f"No device of {name} spends more than rho {rho_max:g} over all of its tasks, from now on and for ever.")


@app.command("list")
def list_budgets(
    ctx: typer.Context,
    from_files: FromFiles = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Every population with a budget: its tasks, and what its busiest device has spent by the last charge."""
    from ops.history.following import Follower
    from ops.operator import tasks
    from ops.operator.populations import budgets

    with open_log_or_export(ctx.obj, from_files) as log:
        views = tasks.make_views(log, find_operator(ctx.obj))
        with Follower(log, views) as follower:
            follower.catch_up()
    # Of all partitions: a population lies in one, and nobody has to know in which.
    found = budgets.list_standings(views)
    if as_json:
        say_json(
            [
                {
                    "population": each.budget.population,
                    "identity": each.budget.identity,
                    "rho_max": each.budget.rho_max,
                    "rho_spent": each.rho_spent,
                    "tasks": [*each.tasks],
                }
                for each in found
            ]
        )
        return
    rows = [
        (
            each.budget.population,
            {"open": "device", "enrolled": "subject"}[each.budget.identity],
            f"{number(each.rho_spent)} of {number(each.budget.rho_max)}",
            ", ".join(each.tasks),
        )
        for each in found
    ]
    table(("population", "each", "rho", "tasks"), rows)
