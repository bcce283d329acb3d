"""`fedlog helper`: takes masks off sums, for tasks of the tier masked whose policy names it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import note, say, say_json
from ops.terminal.options import read_public_keys

app = typer.Typer(
    help="A helper of masked tasks: its folder and key, and the process that answers.", no_args_is_help=True
)
State = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the helper: its keys, and all it has said.")]


@app.command()
def init(
    state: State, as_json: Annotated[bool, typer.Option("--json", help="Print the key as one JSON object.")] = False
) -> None:
    """Make a helper's folder and key, and print the public key that a policy names in masked.helpers."""
    from actors.hosts.helper.store import create_store

    public_key = create_store(state).hex()
    if as_json:
        say_json({"helper": public_key, "folder": str(state)})
        return
    say(public_key)
    note(f"Keep {state} where only this helper runs; a copy of it that is put back answers no round any more.")


@app.command()
def show(state: State) -> None:
    """Print the public key of the helper in a folder."""
    from actors.hosts.helper.store import read_public_key

    say(read_public_key(state).hex())


@app.command()
def run(
    ctx: typer.Context,
    state: State,
    registrar: Annotated[
        list[str] | None,
        typer.Option(
            "--registrar-public-key",
            metavar="HEX",
            help="A registrar that you trust: whom no such one has enrolled is refused; repeatable.",
        ),
    ] = None,
) -> None:
    """Answer for the rounds of every task that names this helper, until Ctrl-C. It may be started again at any time."""
    from contextlib import closing, suppress

    from actors.hosts.helper.service import run_service
    from actors.hosts.helper.store import HelperStore
    from ops.logging_setup import set_up_logging
    from ops.opening import require_operator

    set_up_logging(as_json=False)
    operator, registrars = require_operator(ctx.obj), read_public_keys("--registrar-public-key", registrar)
    with closing(HelperStore(state)) as kept, closing(ctx.obj.log(will_append=True)) as log:
        note(f"Helper {kept.public_key.hex()} answers for tasks of operator {operator.hex()}.")
        with suppress(KeyboardInterrupt):
            run_service(log, kept, operator=operator, registrars=registrars)
