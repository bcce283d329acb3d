"""`fedlog receipt`: prove to a participant what became of an update, and check such a proof without a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json, table
from ops.opening import load_key, open_log_or_export, require_operator
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from ops.settings import Settings
    from schemas.receipts.receipt import Receipt


State = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER", help="A device's folder: proves what its aggregator signed; without --update: lists."
    ),
]


def receipt(
    ctx: typer.Context,
    task: Annotated[str | None, typer.Option(help="Name of the task.")] = None,
    update: Annotated[str | None, typer.Option(metavar="ID", help="Id of the update, which is its lease's.")] = None,
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the receipt there, not to stdout.")] = None,
    check: Annotated[Path | None, typer.Option(metavar="FILE", help="Check a receipt; needs no log.")] = None,
    state: State = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what a receipt proves as one JSON object.")] = False,
    from_files: FromFiles = None,
) -> None:
    """Prove that an update is in a version, or that it is in none, to whoever knows the operator's public key."""
    from schemas.receipts.receipt import encode_receipt, parse_receipt

    if state is not None and task is not None and update is None:
        _list_kept(state, task, as_json=as_json)
        return
    operator = require_operator(ctx.obj)
    if check is not None:
        _check(parse_receipt(check.read_bytes()), operator, as_json=as_json)
        return
    if task is None or update is None:
        raise ConsoleError("Name --task and --update, or a receipt to --check.", exit_code=2)
    found = _find_kept(state, task, update=update, operator=operator) or _find(
        ctx.obj, task, update=update, operator=operator, from_files=from_files
    )
    if to is None:
        say(encode_receipt(found).decode().rstrip())
    else:
        to.write_bytes(encode_receipt(found))
        note(f"{to}: give it to the participant, who checks it with `fedlog receipt --check {to}`.")


def _find(settings: Settings, task: str, *, update: str, operator: bytes, from_files: Path | None) -> Receipt:
    from ops.audit.receipts import find
    from ops.operator import deployments
    from schemas.certificates import Trust

    key = load_key(settings)
    is_operator = key is not None and key.public_key == operator
    with open_log_or_export(settings, from_files) as log:
        trust = Trust(operator, deployments.find(log, operator))
        return find(log, task, update=update, trust=trust, is_operator=is_operator)


def _find_kept(state: Path | None, task: str, *, update: str, operator: bytes) -> Receipt | None:
    """The proof of an exclusion from what a device has kept; an admission is proven by the log alone."""
    from client_agent.outbox.outcomes import KeptOutcomes
    from schemas.receipts.receipt import ADMITTED, Exclusion, check

    kept = KeptOutcomes(state, task) if state is not None else None
    answer = kept.find(update) if kept is not None else None
    if kept is None or answer is None or any((o.update, o.outcome) == (update, ADMITTED) for o in kept.list_told()):
        return None
    made = Exclusion(answer=answer.hex())
    # A folder holds what somebody has put there: nobody is given a receipt that does not hold.
    check(made, operator)
    return made


def _list_kept(state: Path, task: str, *, as_json: bool) -> None:
    from client_agent.outbox.outcomes import KeptOutcomes

    told = KeptOutcomes(state, task).list_told()
    if as_json:
        for each in told:
            say_json({"task": each.task, "update": each.update, "outcome": each.outcome})
        return
    table(("update", "outcome"), [(each.update, each.outcome) for each in told])


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
