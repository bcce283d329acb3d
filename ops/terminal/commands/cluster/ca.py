"""`fedlog ca`: an authority of certificates for tests and small sites, and what it issues."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.console import note, say, say_json, table

if TYPE_CHECKING:
    from ops.doors.authority import CertificateAuthority, Leaf

app = typer.Typer(
    help="An authority of certificates for tests and small sites: create, issue, renew, list.", no_args_is_help=True
)
# As in `ops.doors.authority`, which is not imported for a page of help.
AUTHORITY_DAYS, LEAF_DAYS = 3650, 90
Authority = Annotated[
    Path | None, typer.Option("--authority", metavar="FOLDER", help="Its folder (default: FOLDER/ca).")
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Whom the certificate names, and how its files are called.")]


@app.command()
def create(
    ctx: typer.Context,
    authority: Authority = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What it is called.")] = "fedlog",
    days: Annotated[int, typer.Option(help="How long it lasts, and at most what it issues.")] = AUTHORITY_DAYS,
) -> None:
    """Make an authority: a key that stays in its folder, and a certificate that everybody trusts."""
    from ops.doors.authority import CertificateAuthority

    folder = _find_folder(ctx, authority)
    if authority is None:
        ctx.obj.open_folder()
    made = CertificateAuthority.create(folder, name=name, days=days)
    say(str(made.certificate))
    note(f"Hand that file out to whoever connects. {folder / 'authority.key'} stays here: it signs for any host.")


@app.command()
def issue(
    ctx: typer.Context,
    name: Name,
    host: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A name or address where it is asked; repeatable.")
    ] = None,
    use: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="USE", help="server (default) or client; may be repeated, for both."),
    ] = None,
    days: Annotated[int, typer.Option(help="How long it is good for.")] = LEAF_DAYS,
    authority: Authority = None,
) -> None:
    """Issue a certificate with a new key; never overwrites one."""
    from ops.doors.authority import LeafRequest

    request = LeafRequest(name=name, hosts=host or (), usages=use or ("server",), days=days)
    leaf = _open(ctx, authority).issue(request)
    _say_leaf(leaf)
    if "server" in request.usages:
        note(f"For instance: fedlog gateway --tls-certificate {leaf.certificate} --tls-key {leaf.key}")


@app.command()
def renew(
    ctx: typer.Context,
    name: Name,
    days: Annotated[int | None, typer.Option(help="How long it is good for (default: as long as before).")] = None,
    authority: Authority = None,
) -> None:
    """Replace a certificate and its key by new ones for the same hosts; servers take them without a restart."""
    _say_leaf(_open(ctx, authority).renew(name, days=days))


@app.command("list")
def list_issued(
    ctx: typer.Context,
    authority: Authority = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per certificate.")] = False,
) -> None:
    """Show what was issued, for whom, and until when."""
    opened = _open(ctx, authority)
    rows = [_describe(leaf) for leaf in opened.list_leaves()]
    if as_json:
        for row in rows:
            say_json(row)
        return
    shown = [
        (row["name"], ", ".join(row["hosts"]), ", ".join(row["for"]), row["until"][:10], row["days"]) for row in rows
    ]
    table(("name", "hosts", "for", "until", "days left"), shown)
    note(f"The authority itself ends on {opened.ends_at:%Y-%m-%d}.")


def _describe(leaf: Leaf) -> dict[str, Any]:
    from ops.doors.authority import read_hosts, read_usages

    certificate = leaf.read()
    until = certificate.not_valid_after_utc
    return {
        "name": leaf.name,
        "hosts": [*read_hosts(certificate)],
        "for": [*read_usages(certificate)],
        "until": until.isoformat(),
        # Below zero: it is over, and nobody takes it.
        "days": (until - datetime.now(UTC)).days,
        "certificate": str(leaf.certificate),
        "key": str(leaf.key),
    }


def _say_leaf(leaf: Leaf) -> None:
    say(str(leaf.certificate))
    say(str(leaf.key))
    note(f"Good until {leaf.read().not_valid_after_utc:%Y-%m-%d}.")


def _open(ctx: typer.Context, authority: Path | None) -> CertificateAuthority:
    from ops.doors.authority import CertificateAuthority

    return CertificateAuthority(_find_folder(ctx, authority))


def _find_folder(ctx: typer.Context, authority: Path | None) -> Path:
    found: Path = authority or ctx.obj.folder / "ca"
    return found
