"""`fedlog token`: tokens for the API and the page."""

from __future__ import annotations

from typing import Annotated

import typer

from ops.console import note, say
from ops.terminal.archive import parse_age_s
from ops.terminal.commands.serving.serve import require_server
from ops.terminal.errors import ConsoleError

app = typer.Typer(help="Tokens for `fedlog serve`: who somebody is, and what they may.", no_args_is_help=True)


@app.command()
def create(
    ctx: typer.Context,
    subject: Annotated[str, typer.Option(metavar="NAME", help="Who holds it: what they change is said to be theirs.")],
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="viewer looks, operator changes tasks, admin may all.")
    ] = "viewer",
    expires: Annotated[str, typer.Option(metavar="AGE", help="How long it holds: 90m, 24h or 7d.")] = "7d",
) -> None:
    """Print a token. Whoever holds it is let in until it is over; deleting FOLDER/serve.tokens.key ends all of them."""
    require_server()
    from ops.web.access.tokens import open_key
    from ops.web.callers import ROLES

    # Checked here, so that a misspelt role is no token that opens nothing.
    known = next((one for one in ROLES if one == role), None)
    if known is None:
        raise ConsoleError(f"No role {role!r}: --role takes one of {', '.join(ROLES)}.", exit_code=2)
    key, _ = open_key(ctx.obj.open_folder())
    say(key.issue(subject=subject, role=known, expires_s=parse_age_s(expires)))
    note(f"For {subject}, as {role}, for {expires}. Enter it at /login, or send it: Authorization: Bearer TOKEN.")
