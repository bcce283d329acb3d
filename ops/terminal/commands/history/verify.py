"""`fedlog verify`: check the chain of every journal, what journals say of one another, and every signed head."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say_json, table
from ops.opening import list_partitions, load_key, open_log_or_export
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles

if TYPE_CHECKING:
    from ops.audit.chains import ChainReport
    from ops.audit.findings import Finding
    from schemas.published import Checkpoint


def verify(
    ctx: typer.Context,
    from_files: FromFiles = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="File with signed heads: an export's, or saved records of `published`."),
    ] = None,
    checkpoint_key: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="Public key that signed them (default: from the operator's key file)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per journal partition.")] = False,
) -> None:
    """Check every journal and every signed head; exit 1 and name each record that is wrong."""
    from ops.audit.verification import Verification

    key = load_key(ctx.obj)
    public = _parse_key(checkpoint_key) or (key.public_key if key else None)
    given = [each for path in checkpoint or () for each in _read_checkpoints(path, public)]
    with open_log_or_export(ctx.obj, from_files) as log:
        partitions = list_partitions(log)
        checks = [
            Verification(log, number, accepts_resume=key.accepts if key else lambda _: False, public_key=public)
            for number in partitions
        ]
        findings = [finding for check in checks for finding in check.check(given)]
    # Everything is printed before any error, so that a person sees how far the journals are whole.
    reports = [report for check in checks for report in check.reports.values()]
    if as_json:
        for report in reports:
            say_json(report.plain())
    else:
        columns = ("journal", "partition", "batches", "decisions", "claims", "zombies skipped", "chain")
        table(columns, [_format_row(report) for report in reports if report.records or report.fault])
    for each in given:
        # A head of a partition that was not exported can be neither confirmed nor refuted.
        if strange := {head.partition for head in each.heads} - {*partitions}:
            raise ConsoleError(f"Checkpoint {each.id} names partitions {sorted(strange)}, which are not here.")
    if findings:
        raise ConsoleError("\n".join(_list_findings(findings)))
    records = sum(report.records for report in reports)
    heads = sum(check.checkpoints for check in checks)
    note(f"Every chain is whole: {records} records in {len(reports)} journal partitions, {heads} signed heads.")
    # Signatures are consistent with the key that they name, which may be a forger's.
    if heads and public is None:
        note("Who signed them was not checked: name the operator's public key with --checkpoint-key.")


def _parse_key(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConsoleError("--checkpoint-key must be 64 hex digits, as `fedlog key show` prints them.", exit_code=2)
    return key


def _read_checkpoints(path: Path, public: bytes | None) -> Iterator[Checkpoint]:
    """One checkpoint a line; each must be signed with the operator's key."""
    from schemas.canonical import MalformedError
    from schemas.published import parse_checkpoint

    # Anybody can sign a checkpoint; only the operator's key makes it evidence.
    if public is None:
        raise ConsoleError(
            "--checkpoint needs the operator's public key: --checkpoint-key, or the key file.", exit_code=2
        )
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            read = parse_checkpoint(line)
        except MalformedError as error:
            raise ConsoleError(f"{path}, line {number}: not a checkpoint: {error}") from error
        if read.signed_by != public:
            raise ConsoleError(f"{path}, line {number}: {read.id} is not signed with the operator's key.")
        yield read


def _format_row(report: ChainReport) -> tuple[object, ...]:
    whole = "whole" if report.fault is None else f"BROKEN at offset {report.offset}"
    numbers = (report.batches, report.decisions, report.claims, report.zombies)
    return (report.topic, report.partition, *numbers, whole)


def _list_findings(findings: list[Finding]) -> Iterator[str]:
    yield from (f"{finding}." for finding in findings)
    yield (
        "Restore these records from a copy or from another replica. Until then no actor opens a partition whose "
        "chain is broken."
    )
