"""`fedlog enrol`, `fedlog revoke`, `fedlog forget`: who takes part in tasks that ask for enrolled devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ops.console import note, say, table
from ops.opening import open_log
from ops.terminal.errors import ConsoleError

if TYPE_CHECKING:
    from ops.operator.enrolling.orders import Registrations
    from ops.operator.enrolling.vault import Vault

app = typer.Typer(help="Enrolments: open, close, list, and tokens for devices.", no_args_is_help=True)
REASONS = ("lost", "stolen", "left")
Population = Annotated[str, typer.Argument(metavar="POPULATION", help="First half of the names of its tasks.")]
DeviceClass = Annotated[str, typer.Option("--class", metavar="CLASS", help="What kind of devices, in your words.")]


@app.command("open")
def open_enrolment(
    ctx: typer.Context,
    population: Population,
    quota: Annotated[int, typer.Option(help="How many persons or machines may enrol.", min=1)],
    device_class: DeviceClass = "devices",
    days: Annotated[int, typer.Option(help="For how long.", min=1)] = 30,
) -> None:
    """Let devices of a class enrol in a population, each with a token. A second time: so many more."""
    from ops.operator.enrolling.orders import await_standing

    with _registrations(ctx) as there:
        order = there.open(population, device_class, quota=quota, days=days)
        is_known = await_standing(lambda: there.find_number(population, device_class) >= order.number)
    note(f"Enrolment {order.number} of {device_class} in {population}: {quota} may enrol, for {days} days.")
    _note_pending(is_known)


@app.command()
def close(ctx: typer.Context, population: Population, device_class: DeviceClass = "devices") -> None:
    """Let no more devices of a class enrol; those who are enrolled stay so, and renew."""
    with _registrations(ctx) as there:
        order = there.close(population, device_class)
    note(f"Enrolment {order.number} of {device_class} in {population} is closed.")


@app.command()
def token(
    ctx: typer.Context,
    population: Population,
    device_class: DeviceClass = "devices",
    subject: Annotated[
        str,
        typer.Option(metavar="NAME", help="Who it is for; the same name is the same subject. It is stored nowhere."),
    ] = "",
    device: Annotated[str, typer.Option(metavar="ID", help="Of use to this device alone.")] = "",
    count: Annotated[int, typer.Option(help="So many tokens, one a line, each for somebody new.", min=1)] = 1,
) -> None:
    """Print a token for one enrolment: good once, for ten minutes, on the device that has it first."""
    from schemas.identity.tokens import write_token

    if count > 1 and (subject or device):
        raise ConsoleError("--count makes tokens for somebody new each: leave --subject and --device out.", exit_code=2)
    with _registrations(ctx) as there:
        vault = _vault(ctx)
        for _ in range(count):
            made = there.make_token(population, device_class, vault=vault, name=subject, device=device or None)
            say(write_token(made))
    note("On the device: fedlog device --task TASK --state FOLDER --enrol TOKEN. It is good for ten minutes.")


@app.command("list")
def list_enrolments(ctx: typer.Context) -> None:
    """What is open, and how many have enrolled."""
    from ops.operator.enrolling.standing import read_registry

    rows = []
    with _registrations(ctx) as there:
        for number in range(there.log.partitions):
            for name, population in read_registry(there.log, number, trust=there.trust).populations.items():
                rows += [
                    (
                        name,
                        device_class,
                        "open" if one.is_open else "closed",
                        f"{one.enrolled} of {one.quota}",
                        sum(member.device_class == device_class for member in population.members.values()),
                        datetime.fromtimestamp(one.until_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M"),
                    )
                    for device_class, one in population.enrolments.items()
                ]
    table(("population", "class", "status", "enrolled", "devices", "until, UTC"), rows)


def revoke(
    ctx: typer.Context,
    device: Annotated[str, typer.Option(metavar="ID", help="The device, by the id of its key.")],
    reason: Annotated[str, typer.Option(help="lost, stolen or left.")] = "lost",
) -> None:
    """Give a device no lease any more, in any population; say how long it took until every selector knew."""
    if reason not in REASONS:
        raise ConsoleError(f"No reason {reason!r}: --reason takes one of {', '.join(REASONS)}.", exit_code=2)
    with _registrations(ctx) as there:
        took_s = there.revoke(device, reason=reason)
        count = there.log.partitions
    if took_s is None:
        _note_pending(False)
    else:
        say(f"{device} is revoked; the selectors of all {count} partitions know it after {took_s:.2f} s.")


def forget(
    ctx: typer.Context,
    device: Annotated[str, typer.Option(metavar="ID", help="Whoever this device counts as.")] = "",
    subject: Annotated[str, typer.Option(metavar="NAME", help="The name that the token was made for.")] = "",
    population: Annotated[str, typer.Option(metavar="POPULATION", help="Where, with --subject.")] = "",
) -> None:
    """Delete the salt that leads from a name to its subject in the log, and bar the subject for good."""
    if bool(device) == bool(subject) or bool(subject) != bool(population):
        raise ConsoleError("Name --device, or --subject and --population.", exit_code=2)
    with _registrations(ctx) as there:
        homes = there.forget(vault=_vault(ctx), device=device, name=subject, population=population)
    say(f"Forgotten in {', '.join(homes)}: the salt is deleted, and nobody of that name can enrol there again.")
    note("Copies of the vault on backups still hold it, until they are deleted too (docs/privacy.md).")


@contextmanager
def _registrations(ctx: typer.Context) -> Iterator[Registrations]:
    from ops.operator.enrolling.authority import open_authority
    from ops.operator.enrolling.orders import Registrations

    with open_log(ctx.obj) as log:
        yield Registrations(log, open_authority(ctx.obj, log))


def _vault(ctx: typer.Context) -> Vault:
    from ops.operator.enrolling.vault import FILE, Vault

    return Vault(ctx.obj.open_folder() / FILE)


def _note_pending(is_known: bool) -> None:
    if not is_known:
        # It is in the log already: a registrar that starts later decides it then.
        note("Not everybody has decided it yet: it counts once `fedlog worker registrar` and the selectors run.")
