"""`fedlog receipt`: prove to a participant what became of an update, and check such a proof without a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json
from ops.opening import open_log_or_export, require_operator
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from schemas.receipts.receipt import Receipt


def receipt(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Option(help="Name of the task.")] = None,
    update: Annotated[str | None, typer.Option(metavar="ID", help="Id of the update, which is its lease's.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the receipt there, not to stdout.")] = None,
    check: Annotated[Path | None, typer.Option(metavar="FILE", help="Check a receipt; needs no log.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what a receipt proves as one JSON object.")] = False,
    from_files: FromFiles = None,
) -> None:
    """Prove that an update is in a version, or that it is in none, to whoever knows the operator's public key."""
    from schemas.receipts.receipt import encode_receipt, parse_receipt

    operator = require_operator(ctx.obj)
    if check is not None:
        _check(parse_receipt(check.read_bytes()), operator, as_json=as_json)
        return
    if task is None or update is None:
        raise ConsoleError("Name --task and --update, or a receipt to --check.", exit_code=2)
    from ops.audit.receipts import find
    from ops.operator import deployments
    from schemas.certificates import Trust

    with open_log_or_export(ctx.obj, from_files) as log:
        found = find(log, task, update=update, trust=Trust(operator, deployments.find(log, operator)))
    if to is None:
        say(encode_receipt(found).decode().rstrip())
    else:
        to.write_bytes(encode_receipt(found))
        note(f"{to}: give it to the participant, who checks it with `fedlog receipt --check {to}`.")


def _check(found: Receipt, operator: bytes, *, as_json: bool) -> None:
    from msgspec import to_builtins

    from schemas.receipts.receipt import check

    # It raises where it proves nothing, so that a script can go by the exit code alone.
    proven = check(found, operator)
    if as_json:
        say_json(to_builtins(proven))
    elif proven.version is None:
        say(f"Proven: update {proven.update} is in no version of {proven.task}: {proven.outcome}.")
    else:
        say(f"Proven: update {proven.update} is in version {proven.version} of {proven.task}.")
        # Whose update it is says its body alone, and only its device knows what it sent.
        note(f"Its body has the SHA-256 {proven.body_sha256}; compare it with what the device sent.")
