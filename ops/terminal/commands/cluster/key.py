"""`fedlog key`: the operator's key, from which seals, noise and checkpoints are derived."""

from __future__ import annotations

import typer

from ops.console import note, say

app = typer.Typer(help="The operator's key: create, show.", no_args_is_help=True)


@app.command()
def create(ctx: typer.Context) -> None:
    """Create the operator's key: 32 random bytes as hex, readable by you alone; never overwrites one."""
    from actors import keys

    keys.create(ctx.obj.operator_key_file)
    # The path alone: a key that is printed stands in the history of the terminal.
    say(str(ctx.obj.operator_key_file))
    note("Keep a copy in a safe place: without it a full replay cannot recompute the noise of private tasks.")


@app.command()
def show(ctx: typer.Context) -> None:
    """Print the public key that checkpoints are signed with, for `fedlog verify --checkpoint-key`."""
    from actors import keys

    say(keys.load(ctx.obj.operator_key_file).public_key.hex())
