"""Who a device is: its name and its Ed25519 key, in a file of its folder that only its owner may read.

The modules of `running/` open it when they put a device together; `Device` signs check-ins with it, the outbox updates.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client_agent.files import write_durably
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.identifiers import DeviceId

FILE = "identity.json"


class IdentityError(FedlogError):
    """The folder holds no usable identity, or another device's; the message says which file."""

    exit_code = EXIT_USAGE
    code = "identity_unusable"


@dataclass(frozen=True)
class Identity:
    """A device's name and key. The first check-in binds the two, so a lost key means a new name."""

    device: str
    key: Ed25519PrivateKey

    # Cached, because every answer is compared with it.
    @cached_property
    def public_key(self) -> bytes:
        """32 raw bytes."""
        return self.key.public_key().public_bytes_raw()


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the file."""

    device: DeviceId
    key: bytes


def open_identity(folder: Path, device: str | None = None, *, secret: bytes | None = None) -> Identity:
    """The identity in `folder`; the first call creates one, with the name `device` or a random one.

    `secret` (32 bytes) replaces the random key, for simulations that must repeat. Raises IdentityError.
    """
    path = folder / FILE
    if not path.exists():
        new = _File(device=device or f"device-{secrets.token_hex(6)}", key=secret or secrets.token_bytes(32))
        # Checked before it is written: a name that no event can carry would only fail at the first check-in.
        try:
            msgspec.convert(new.device, DeviceId)
        except msgspec.ValidationError as error:
            raise IdentityError(f"device name {new.device!r}: letters, digits, '.', '_' and '-', up to 63") from error
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(path, msgspec.json.encode(new), mode=0o600)
    return _read(path, device)


def _read(path: Path, device: str | None) -> Identity:
    # Whoever reads the key can send updates in this device's name.
    if path.stat().st_mode & 0o077:
        raise IdentityError(f"{path} can be read by others; it holds a private key: chmod 600 {path}")
    try:
        stored = msgspec.json.decode(path.read_bytes(), type=_File)
        key = Ed25519PrivateKey.from_private_bytes(stored.key)
    except (msgspec.DecodeError, ValueError) as error:
        raise IdentityError(f"{path} holds no identity ({error}); move it away to start as a new device") from error
    if device is not None and device != stored.device:
        raise IdentityError(f"{path} belongs to device {stored.device!r}, not to {device!r}; take another folder")
    return Identity(stored.device, key)
