"""Who a device is: its Ed25519 key, of which its id is a digest, in a file of its folder that only its owner may read.

The modules of `running/` open it when they put a device together; `Device` signs check-ins with it, the outbox updates.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client_agent.files import write_durably
from schemas.devices import name_device, tag_public_key
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.identifiers import DeviceId

FILE = "identity.json"
Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")]


class IdentityError(FedlogError):
    """The folder holds no usable identity, or another device's; the message says which file."""

    exit_code = EXIT_USAGE
    code = "identity_unusable"


@dataclass(frozen=True)
class Identity:
    """A device's key, and a label for people. Its id follows from the key, so a lost key means a new device."""

    label: str
    key: Ed25519PrivateKey

    # Cached, because every answer is compared with both.
    @cached_property
    def public_key(self) -> bytes:
        """The public half, with the prefix of its algorithm."""
        return tag_public_key(self.key)

    @cached_property
    def device(self) -> DeviceId:
        """The id."""
        return name_device(self.public_key)


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the file."""

    label: Label
    key: bytes


def open_identity(folder: Path, label: str | None = None, *, secret: bytes | None = None) -> Identity:
    """The identity in `folder`; the first call creates one, with the label `label` or a random one.

    `secret` (32 bytes) replaces the random key, for simulations that must repeat. Raises IdentityError.
    """
    path = folder / FILE
    if not path.exists():
        new = _File(label=label or f"device-{secrets.token_hex(6)}", key=secret or secrets.token_bytes(32))
        # Checked before it is written: nobody else would, and a person reads it in logs and on terminals.
        try:
            msgspec.convert(new.label, Label)
        except msgspec.ValidationError as error:
            raise IdentityError(f"device name {new.label!r}: letters, digits, '.', '_' and '-', up to 63") from error
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, msgspec.json.encode(new), mode=0o600)
    return _read(path, label)


def _read(path: Path, label: str | None) -> Identity:
    # Whoever reads the key can send updates in this device's name.
    if path.stat().st_mode & 0o077:
        raise IdentityError(f"{path} can be read by others; it holds a private key: chmod 600 {path}")
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_File)
        key = Ed25519PrivateKey.from_private_bytes(stored.key)
    except (msgspec.DecodeError, ValueError) as error:
        raise IdentityError(f"{path} holds no identity ({error}); move it away to start as a new device") from error
    if label is not None and label != stored.label:
        raise IdentityError(f"{path} belongs to device {stored.label!r}, not to {label!r}; take another folder")
    return Identity(stored.label, key)
