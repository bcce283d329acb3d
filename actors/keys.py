"""The operator's key, and what is derived from it: seals, noise, checkpoints. None of it is ever in a topic (law 7)."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from schemas.canonical import encode
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import Partial
from schemas.journal import ChainResumed, resume_payload
from schemas.leases import Lease, open_lease, seal_lease

KEY_BYTES = 32
P = TypeVar("P", bound=Partial)


class OperatorKeyError(FedlogError):
    """The operator's key file cannot be used; the message says why and what to do."""

    exit_code = EXIT_USAGE
    code = "operator_key_unusable"


@dataclass(frozen=True, slots=True, repr=False)
class OperatorKey:
    """32 secret bytes; every use has a key of its own (HKDF-SHA256 by label, RFC 5869)."""

    secret: bytes

    def derive(self, label: str) -> bytes:
        """The 32-byte key for one use."""
        # One key a use, so that one that leaks, or is handed to another process, opens nothing else.
        return HKDF(SHA256(), 32, salt=None, info=f"fedlog/{label}/1".encode()).derive(self.secret)

    @property
    def noise(self) -> bytes:
        """The key that noise is drawn from."""
        return self.derive("noise")

    @property
    def checkpoint(self) -> Ed25519PrivateKey:
        """The key that signs what is announced; its public half may be known to everybody."""
        return Ed25519PrivateKey.from_private_bytes(self.derive("checkpoint"))

    @property
    def public_key(self) -> bytes:
        """32 bytes against which whoever has them checks checkpoints."""
        return self.checkpoint.public_key().public_bytes_raw()

    def seal_resume(self, resumed: ChainResumed) -> ChainResumed:
        """The same with the operator's seal."""
        # An HMAC suffices: only processes that hold the operator's key follow a resumed chain.
        seal = hmac.digest(self.derive("resume"), resume_payload(resumed), "sha256")
        return msgspec.structs.replace(resumed, seal=seal)

    def accepts(self, resumed: ChainResumed) -> bool:
        """Whether the operator's key sealed it."""
        # In constant time, so that a forger learns nothing from how long a refusal takes.
        return hmac.compare_digest(self.seal_resume(resumed).seal, resumed.seal)

    @property
    def key_id(self) -> bytes:
        """8 bytes that name the noise key in a mechanism and tell nothing about it."""
        # A digest of a key of its own: it names the noise key and could not be used to draw.
        return hashlib.sha256(self.derive("key-id")).digest()[:8]


class Seals:
    """Seals leases and opens them again; selector and aggregator hold the same key."""

    def __init__(self, key: OperatorKey) -> None:
        # Only the derived key is kept: whoever gets hold of this object can neither draw noise nor sign versions.
        self.key = key.derive("seal")

    def seal(self, lease: Lease) -> bytes:
        """The sealed lease that the device carries."""
        return seal_lease(lease, self.key)

    def open(self, sealed: bytes) -> Lease | None:
        """The lease, or None when these bytes were not sealed here."""
        return open_lease(sealed, self.key)


class PartialSeals:
    """Seals what shard workers tell: whoever may write to `partials` could change a model otherwise."""

    def __init__(self, key: OperatorKey) -> None:
        self._key = key.derive("partials")

    def seal(self, partial: P) -> P:
        """The same with its seal."""
        # The seal covers all fields but itself, so the field has a fixed value while it is computed.
        bare = msgspec.structs.replace(partial, seal=bytes(32))
        return msgspec.structs.replace(partial, seal=hmac.digest(self._key, encode(bare), "sha256"))

    def holds(self, partial: Partial) -> bool:
        """Whether one of the operator's workers sealed it."""
        # Not by `==`: how long that takes would tell a forger how much of a seal is right already.
        return hmac.compare_digest(self.seal(partial).seal, partial.seal)


def load(path: Path) -> OperatorKey:
    """Read the key file. Raises OperatorKeyError when it is missing, readable by others, or not 64 hex digits."""
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(errors="replace").strip()
    except OSError as error:
        raise OperatorKeyError(f"{path}: {error.strerror}; make one with `fedlog key create`") from error
    # A key that others could read may have been copied, and with it the noise of every release can be taken off.
    if mode & 0o077:
        raise OperatorKeyError(f"{path}: mode {mode:04o} lets others read it; run `chmod 600 {path}`")
    try:
        secret = bytes.fromhex(text)
    # Told below in words of our own: nothing of what is in this file may reach a log.
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise OperatorKeyError(f"{path}: must hold {2 * KEY_BYTES} hex digits and nothing else")
    return OperatorKey(secret)


def create(path: Path) -> OperatorKey:
    """Write a new key file, mode 0600. Raises OperatorKeyError when there is one already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    secret = secrets.token_bytes(KEY_BYTES)
    path.touch(mode=0o600, exist_ok=True)
    # A key that is overwritten takes with it every open lease, and the noise that a full replay has to draw again.
    if path.read_bytes():
        raise OperatorKeyError(f"{path}: exists; a key that was in use must be kept for as long as its journals")
    # Before the secret is in it: an empty file of another mode may have been there already.
    path.chmod(0o600)
    path.write_text(secret.hex() + "\n")
    return OperatorKey(secret)
