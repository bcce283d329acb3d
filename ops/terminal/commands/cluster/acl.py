"""`fedlog acl`: writes and proves who may read and write what on the brokers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, say_json, table
from ops.terminal.errors import ConsoleError

if TYPE_CHECKING:
    from ops.doors.comparing import Wanted
    from ops.doors.rights import Quota

app = typer.Typer(help="Who may read and write what on the brokers: apply, check, list.", no_args_is_help=True)
Population = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="A population whose devices come as devices.NAME, with a quota of their own."),
]
QuotaOption = Annotated[
    list[str] | None,
    typer.Option(
        "--quota",
        metavar="PRINCIPAL:LIMIT=N",
        help="Another quota than usual: produce_bytes_s, fetch_bytes_s, request_percent; or none. Repeatable.",
    ),
]
Passwords = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Lines PRINCIPAL=PASSWORD; each becomes that principal's (SCRAM-SHA-512)."),
]


@app.command()
def apply(
    ctx: typer.Context,
    passwords: Passwords = None,
    population: Population = None,
    quota: QuotaOption = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Also remove what the table does not allow.")] = False,
) -> None:
    """Grant each principal its least rights, and set the quotas; needs a super user."""
    from ops.doors import keeping
    from ops.doors.rights import list_principals

    kafka = ctx.obj.kafka()
    wanted = _find_wanted(kafka.topic_prefix, population, quota=quota)
    names = list_principals(wanted.populations)
    found = {} if passwords is None else _read_passwords(passwords, names)
    done = keeping.apply(kafka, wanted, passwords=found, revokes=revoke)
    revoked = f" {done.revoked} revoked." if revoke else ""
    say(f"{done.granted} rights granted to {', '.join(names)}; {done.passwords} passwords set.{revoked}")
    note(f"Quotas changed: {done.limited}. `fedlog acl check` says what is missing and what is too much.")


@app.command()
def check(
    ctx: typer.Context,
    population: Population = None,
    quota: QuotaOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what is missing and what is too much, each with what to do; exit 1 where there is anything."""
    from ops.doors import keeping

    kafka = ctx.obj.kafka()
    names, findings = keeping.check(kafka, _find_wanted(kafka.topic_prefix, population, quota=quota))
    if as_json:
        say_json({"ok": not findings, "principals": names, "findings": [asdict(one) for one in findings]})
    else:
        for one in findings:
            say(f"{one.principal} {one.what}.\n    {one.remedy}")
    # A finding is the answer no, for scripts that ask before they go on.
    if findings:
        raise typer.Exit(1)
    if not as_json:
        say(f"The brokers allow {', '.join(names)} what the table says, and no more.")


@app.command("list")
def list_rights(
    ctx: typer.Context,
    population: Population = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per right.")] = False,
    commands: Annotated[
        bool, typer.Option("--commands", help="Print what kafka-acls.sh takes, for whoever keeps the cluster.")
    ] = False,
) -> None:
    """Show the table: every principal, what it may do with which topic, group and transactional id. Asks no broker."""
    from ops.doors.comparing import describe_resource, write_command
    from ops.doors.rights import find_rights, list_principals

    wanted = _find_wanted(ctx.obj.topic_prefix, population, quota=None)
    grants = wanted.list_grants()
    if commands or as_json:
        for grant in grants:
            say(write_command(grant)) if commands else say_json(
                {
                    "principal": grant.principal,
                    "operation": grant.operation,
                    "kind": grant.kind,
                    "name": grant.name,
                    "is_prefix": grant.is_prefix,
                }
            )
        return
    rows = []
    for name in list_principals(wanted.populations):
        # What workers look at is all of it, and would hide what they do.
        own = [grant for grant in grants if grant.principal == name and grant.operation != "DESCRIBE"]
        for operation in dict.fromkeys(grant.operation for grant in own):
            what = ", ".join(describe_resource(grant) for grant in own if grant.operation == operation)
            rows.append((name, operation, what))
        rights = find_rights(name)
        limits = {key: value for key, value in asdict(rights.quota).items() if value} if rights else {}
        rows += [(name, "quota", ", ".join(f"{key} {value:,}" for key, value in limits.items()))] if limits else []
    table(("principal", "may", "what"), rows)


def _find_wanted(prefix: str, populations: Sequence[str] | None, *, quota: Sequence[str] | None) -> Wanted:
    from ops.doors.comparing import Wanted
    from ops.doors.rights import DEVICES, find_rights, list_principals
    from schemas.topics import population_of

    for name in populations or ():
        if not name or population_of(name) != name:
            raise ConsoleError(f"--population {name}: is the first half of a task's name, without a dot.", exit_code=2)
    known = list_principals(populations or ())
    quotas: dict[str, Quota] = {}
    for text in quota or ():
        principal, limit, value = _parse_quota(text)
        if principal not in known:
            hint = f" Name its population too: --population {principal.removeprefix(f'{DEVICES}.')}."
            hint = hint if principal.startswith(f"{DEVICES}.") else ""
            raise ConsoleError(f"--quota {text}: no {principal} among {', '.join(known)}.{hint}", exit_code=2)
        rights = find_rights(principal)
        assert rights is not None
        # Its other limits stay as they are usually, or as an option before this one has made them.
        before = quotas.get(principal, rights.quota)
        quotas[principal] = replace(before, **{limit: value})
    return Wanted(prefix=prefix, populations=tuple(populations or ()), quotas=quotas)


def _parse_quota(text: str) -> tuple[str, str, float | None]:
    from ops.doors.comparing import QUOTAS

    principal, _, rest = text.partition(":")
    limit, _, number = rest.partition("=")
    try:
        value = None if number == "none" else float(number.replace("_", ""))
        if limit in QUOTAS and (value is None or 1 <= value < float("inf")):
            return principal, limit, value
    except ValueError:
        pass
    raise ConsoleError(
        f"--quota {text}: is PRINCIPAL:LIMIT=N with one of {', '.join(QUOTAS)} and a number from 1 on, or none; for "
        "instance devices:produce_bytes_s=5000000.",
        exit_code=2,
    )


def _read_passwords(path: Path, known: Collection[str]) -> dict[str, str]:
    found = {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        principal, _, password = line.strip().partition("=")
        if not line.strip():
            continue
        # Nothing of the line is repeated: what is wrong with it may be the password's place.
        if principal not in known or not password:
            raise ConsoleError(f"{path}, line {number}: must be ROLE=PASSWORD, of {', '.join(known)}.", exit_code=2)
        found[principal] = password
    return found
