"""`fedlog key`: the operator's key, from which seals, noise and checkpoints are derived."""

from __future__ import annotations

import typer

from ops.console import note, say

app = typer.Typer(help="The operator's key: create, show.", no_args_is_help=True)


@app.command()
def create(ctx: typer.Context) -> None:
    """Make the operator's key: 32 random bytes as hex, readable by you alone; never overwrites one."""
    from actors import keys

    keys.create(ctx.obj.operator_key_file)
    say(str(ctx.obj.operator_key_file))
    note("Keep a copy in a safe place: without it a full replay cannot draw the noise of private tasks again.")


@app.command()
def show(ctx: typer.Context) -> None:
    """Print the public key of checkpoints, which everybody may know; `fedlog verify --checkpoint-key` takes it."""
    from actors import keys

    say(keys.load(ctx.obj.operator_key_file).public_key.hex())
