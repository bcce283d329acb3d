"""What this machine holds: files with secrets, disks, and what is good until a day."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509

from actors.keys import RoleKey
from ops.doctor.facts import Disk, Expiring, PrivateFile
from ops.settings import Settings

CONNECT_S = 3.0
# Below the folder of a deployment; whatever of it is not there is not looked at.
_SECRETS = (
    "*.key",
    "*.vault",
    "epoch-keys/*",
    "broker/broker.json",
    "ca/authority.key",
    "ca/issued/*.key",
    "history.duckdb",
)


def list_private_files(settings: Settings) -> list[PrivateFile]:
    """The folder, and all files with secrets in it or named by the settings."""
    folders = [folder for folder in (settings.folder, settings.epoch_keys) if folder.is_dir()]
    named = [settings.operator_key_file, *map(Path, filter(None, (settings.role_key_file, settings.ssl_keyfile)))]
    # Found by how they are called, because nobody keeps a list of what was issued into the folder.
    found = {path for pattern in _SECRETS for path in settings.folder.glob(pattern)}
    files = sorted({path for path in (*named, *found) if path.is_file()})
    return [
        *(PrivateFile(path=str(folder), mode=folder.stat().st_mode & 0o777, is_folder=True) for folder in folders),
        *(PrivateFile(path=str(path), mode=path.stat().st_mode & 0o777) for path in files),
    ]


def list_disks(settings: Settings) -> list[Disk]:
    """The disk of the folder."""
    if not settings.folder.exists():
        return []
    # What is free for everybody, and not what root alone may still take.
    used = shutil.disk_usage(settings.folder)
    return [Disk(place=str(settings.folder), size=used.total, left=used.free)]


def list_expiring(settings: Settings) -> list[Expiring]:
    """Keys of roles, certificates of our own authority, this client's, and the one that a broker shows."""
    found = [*_list_role_keys(settings), *_list_own(settings.folder / "ca")]
    for name in ("ssl_certfile", "ssl_cafile"):
        if path := getattr(settings, name):
            found += _read_certificates(Path(path), renew=f"take a new one from its authority, and name it ({name})")
    return [*found, *_ask_broker(settings)]


def _list_role_keys(settings: Settings) -> Iterator[Expiring]:
    named = [Path(settings.role_key_file)] if settings.role_key_file else []
    for path in sorted({*settings.folder.glob("*.key"), *named}):
        # The operator's key is no key of a role, and others may be somebody else's.
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            key = msgspec.json.decode(path.read_bytes(), type=RoleKey)
            renew = f"fedlog key issue --for {key.role}, and start what uses it again"
            yield Expiring(what=str(path), until_ms=key.until_ms, renew=renew)


def _list_own(folder: Path) -> Iterator[Expiring]:
    yield from _read_certificates(
        folder / "authority.pem", renew="fedlog ca create --authority OTHER, and hand its authority.pem out first"
    )
    for path in sorted((folder / "issued").glob("*.pem")):
        yield from _read_certificates(path, renew=f"fedlog ca renew {path.stem}")


def _read_certificates(path: Path, *, renew: str) -> list[Expiring]:
    with contextlib.suppress(OSError, ValueError):
        found = x509.load_pem_x509_certificates(path.read_bytes())
        named = ((f"{path} ({each.subject.rfc4514_string()})", each) for each in found)
        return [Expiring(what=what, until_ms=_read_ms(each.not_valid_after_utc), renew=renew) for what, each in named]
    return []


def _ask_broker(settings: Settings) -> list[Expiring]:
    """The certificate that the first broker shows, whoever signed it: one that has ended keeps every client out."""
    host, _, port = settings.bootstrap_servers.partition(",")[0].strip().rpartition(":")
    if "SSL" not in settings.security_protocol or not port.isdigit():
        return []
    # Unverified, because one that has ended would be refused before anybody could say when it did.
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError, ValueError),
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S) as plain,
        context.wrap_socket(plain, server_hostname=host.strip("[]")) as connection,
    ):
        shown = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
        renew = "renew it where the broker's keystore is, and start the broker again"
        return [Expiring(what=f"broker {host}:{port}", until_ms=_read_ms(shown.not_valid_after_utc), renew=renew)]
    return []


def _read_ms(until: datetime) -> int:
    return int(until.timestamp() * 1000)
