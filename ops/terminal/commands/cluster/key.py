"""`fedlog key`: the operator's key, and the keys that it hands out, one a role."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.console import note, say
from ops.opening import open_log, require_key
from ops.terminal.errors import ConsoleError

app = typer.Typer(help="The operator's key, and one for each role: create, show, issue.", no_args_is_help=True)


@app.command()
def create(ctx: typer.Context) -> None:
    """Create the operator's key: 32 random bytes as hex, readable by you alone; never overwrites one."""
    from actors import keys

    if ctx.obj.operator_key_file.parent == ctx.obj.folder:
        ctx.obj.open_folder()
    keys.create(ctx.obj.operator_key_file)
    # The path alone: a key that is printed stands in the history of the terminal.
    say(str(ctx.obj.operator_key_file))
    note("Keep a copy in a safe place: without it a full replay cannot recompute the noise of private tasks.")


@app.command()
def show(
    ctx: typer.Context,
    of: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A role's key file: its public key, as helpers pin one.")
    ] = None,
) -> None:
    """Print the operator's public key: what everybody else names with --operator-public-key."""
    from actors import keys

    if of is None:
        say(keys.load(ctx.obj.operator_key_file).public_key.hex())
        return
    say(keys.load_role(of, *keys.ROLE_SECRETS, *keys.SERVE_ROLES).signer.key.public_key().public_bytes_raw().hex())


@app.command()
def issue(
    ctx: typer.Context,
    role: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="ROLE",
            help="selector, aggregator, privacy, shard, evaluator, registrar, rollout, enroller, serve, steward.",
        ),
    ],
    days: Annotated[int, typer.Option(help="How long the key is good for.", min=1)] = 365,
    serial: Annotated[
        int, typer.Option(help="Another number gives another key: count up after a leak.", min=0, max=255)
    ] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to (default: FOLDER/ROLE.key).")] = None,
) -> None:
    """Write the key file of one role: a certified key, and only the secrets that this role needs."""
    from actors import keys
    from ops.operator import deployments

    known = (*keys.ROLE_SECRETS, *keys.SERVE_ROLES)
    if role not in known:
        raise ConsoleError(f"No role {role!r}: --for takes one of {', '.join(known)}.", exit_code=2)
    path = out or ctx.obj.folder / f"{role}.key"
    with open_log(ctx.obj) as log:
        key = deployments.issue_key(log, require_key(ctx.obj), role=role, days=days, serial=serial)
        keys.save_role(key, path)
    say(str(path))
    note(f"Hand it to the {role} alone (FEDLOG_ROLE_KEY_FILE); it is good for {days} days in this deployment.")
