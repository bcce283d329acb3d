"""`fedlog verify`: check the chain of every journal, what journals say of one another, and every signed head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say_json, table
from ops.opening import find_operator, list_partitions, open_log_or_export
from ops.terminal.errors import ConsoleError
from ops.terminal.options import FromFiles, read_public_keys

if TYPE_CHECKING:
    from ops.audit.chains import ChainReport
    from ops.audit.findings import Finding
    from schemas.published import Checkpoint


_COLUMNS = ("journal", "partition", "batches", "decisions", "claims", "zombies", "strangers", "chain")


def verify(
    ctx: typer.Context,
    from_files: FromFiles = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="File with signed heads: an export's, or saved records of `published`."),
    ] = None,
    helper: Annotated[
        list[str] | None,
        typer.Option(
            "--helper-public-key", metavar="HEX", help="A helper of masked tasks, whose words are checked; repeatable."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per journal partition.")] = False,
) -> None:
    """Check every journal and every signed head; exit 1 and name each record that is wrong."""
    from ops.audit.verification import Verification

    operator, helpers = find_operator(ctx.obj), read_public_keys("--helper-public-key", helper)
    paths = [*(checkpoint or ()), *_find_own_heads(from_files, operator)]
    given = [each for path in paths for each in _read_checkpoints(path, operator)]
    with open_log_or_export(ctx.obj, from_files) as log:
        partitions = list_partitions(log)
        checks = [Verification(log, number, operator=operator, helpers=helpers) for number in partitions]
        findings = [finding for check in checks for finding in check.check(given)]
    # Everything is printed before any error, so that a person sees how far the journals are whole.
    reports = [report for check in checks for report in check.reports.values()]
    if from_files is None:
        _leave_note(ctx.obj.folder, reports, findings=len(findings), knew_operator=operator is not None)
    _print(reports, as_json=as_json)
    for each in given:
        # A head of a partition that was not exported can be neither confirmed nor refuted.
        if strange := {head.partition for head in each.heads} - {*partitions}:
            raise ConsoleError(f"Checkpoint {each.id} names partitions {sorted(strange)}, which are not here.")
    if findings:
        is_broken = any(report.fault is not None for report in reports)
        raise ConsoleError("\n".join(_list_findings(findings, is_broken=is_broken)))
    _note_words(sum((check.words for check in checks), Counter[bytes]()), helpers)
    records = sum(report.records for report in reports)
    heads = sum(check.checkpoints for check in checks)
    note(f"Every chain is whole: {records} records in {len(reports)} journal partitions, {heads} signed heads.")
    for report in reports:
        if report.first_stranger is not None:
            note(_describe_strangers(report))
    _note_unchecked(has_heads=from_files is None or bool(given), has_author=not records or operator is not None)


def _note_unchecked(*, has_heads: bool, has_author: bool) -> None:
    # Nothing follows a journal's last record: an export that was cut there is a shorter one that holds.
    if not has_heads:
        note(
            "Where its journals ended was not checked, nor whether `published` has all its announcements: the export "
            "has no signed heads, or they cannot be judged without the operator's public key. Compare it with heads "
            "kept elsewhere (--checkpoint), and run `fedlog replay`."
        )
    # Signatures are consistent with the key that they name, which may be a forger's.
    if not has_author:
        note("Who signed them was not checked: name the operator's public key with --operator-public-key.")


def _note_words(words: Counter[bytes], helpers: list[bytes]) -> None:
    """Say at how many rounds helpers were shown these journals. Raises ConsoleError for one that has said nothing."""
    # Whoever hides what a helper has said hides what it was shown.
    if silent := [key.hex() for key in helpers if not words[key]]:
        raise ConsoleError(f"Nothing here was signed by helper {', '.join(silent)}: what it was shown is not known.")
    if helpers:
        note(f"{len(helpers)} helpers were shown these very journals, at {words.total()} heads, by their signatures.")


def _print(reports: list[ChainReport], *, as_json: bool) -> None:
    if as_json:
        for report in reports:
            say_json(report.plain())
    else:
        table(_COLUMNS, [_format_row(report) for report in reports if report.records or report.fault])


def _leave_note(folder: Path, reports: list[ChainReport], *, findings: int, knew_operator: bool) -> None:
    """Let the folder's pages say up to where its log was verified; an export is not what they show."""
    from ops.history import verified

    reached = [
        verified.Reached(
            topic=report.topic,
            partition=report.partition,
            # A chain that is broken was followed no further than to its fault.
            end=report.end if report.fault is None else report.offset or 0,
            is_whole=report.fault is None,
        )
        for report in reports
        if report.records or report.fault
    ]
    verified.leave(folder, verified.Verified.make(reached, findings=findings, knew_operator=knew_operator))


def _find_own_heads(folder: Path | None, operator: bytes | None) -> Iterator[Path]:
    """The signed heads that stand in an export, where somebody vouches for them."""
    from ops.audit.export import CHECKPOINT

    if folder is not None and operator is not None and (folder / CHECKPOINT).is_file():
        yield folder / CHECKPOINT


def _read_checkpoints(path: Path, operator: bytes | None) -> Iterator[Checkpoint]:
    """One checkpoint a line; the operator must vouch for each."""
    from schemas.canonical import MalformedError
    from schemas.certificates import Trust
    from schemas.published import is_vouched_for, parse_checkpoint

    # Anybody can sign a checkpoint; only the operator's word makes it evidence.
    if operator is None:
        raise ConsoleError(
            "--checkpoint needs the operator's public key: --operator-public-key, or the key file.", exit_code=2
        )
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            read = parse_checkpoint(line)
        except MalformedError as error:
            raise ConsoleError(f"{path}, line {number}: not a checkpoint: {error}") from error
        if not is_vouched_for(read, Trust(operator)):
            raise ConsoleError(
                f"{path}, line {number}: {read.id} is signed by a key for which the operator does not vouch."
            )
        yield read


def _describe_strangers(report: ChainReport) -> str:
    return (
        f"{report.place}: {report.strangers} records that no writer of this journal signed, from offset "
        f"{report.first_stranger} on. They decide nothing; somebody else may write to this topic."
    )


def _format_row(report: ChainReport) -> tuple[object, ...]:
    whole = "whole" if report.fault is None else f"BROKEN at offset {report.offset}"
    numbers = (report.batches, report.decisions, report.claims, report.zombies, report.strangers)
    return (report.topic, report.partition, *numbers, whole)


def _list_findings(findings: list[Finding], *, is_broken: bool) -> Iterator[str]:
    yield from (f"{finding}." for finding in findings)
    if is_broken:
        yield (
            "Restore these records from a copy or from another replica. Until then no actor opens a partition whose "
            "chain is broken."
        )
        return
    # What a stranger wrote into `published` stops nobody; a head that the journal does not have may be a lost tail.
    yield (
        "Every chain is whole, and actors open all partitions. What nobody vouches for was written by somebody else: "
        "consumers that check signatures pass over it; find out who may write there. A head that its journal does not "
        "have says that the journal was replaced or cut: compare with a copy."
    )
