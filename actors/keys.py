"""Keys: the operator's, and what the operator hands out to each role. None of it is ever in a topic (law 7).

The operator's key signs what is said about tasks, and certifies one key a role; it stays with the operator. A role's
key file holds that key, its certificate, and only the secrets that this role needs: a selector that is taken over can
neither draw noise nor create a task.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import UNSET, UnsetType

from schemas.canonical import encode
from schemas.certificates import Certificate, Signer, Trust, certify_key
from schemas.creations import SERVE, STEWARD, certify_task_event, sign_task_event
from schemas.errors import EXIT_USAGE, FedlogError
from schemas.events import Partial, TaskEvent
from schemas.identifiers import Deployment, PublicKey, Sha256
from schemas.identity.orders import ENROLLER

KEY_BYTES = 32
# A serial counts leaks. An auditor tries them all, because a mechanism names the noise key and not its serial.
SERIAL_MAX = 255
NOISE, PARTIALS, MARKS, SUBJECTS = "noise", "partials", "marks", "subjects"
# Which shared secrets each role is handed; a role that is not here signs and shares nothing.
ROLE_SECRETS: Mapping[str, tuple[str, ...]] = {
    "selector": (MARKS,),
    "aggregator": (NOISE, PARTIALS, MARKS),
    "privacy": (),
    "shard": (PARTIALS,),
    "evaluator": (),
    "registrar": (),
    "rollout": (),
    # Whoever hands out tokens has to know a name again; the registrar never sees one.
    ENROLLER: (SUBJECTS,),
}
# A server speaks for the operator about tasks, and the second of them may create some.
SERVE_ROLES = (SERVE, STEWARD)
P = TypeVar("P", bound=Partial)


class OperatorKeyError(FedlogError):
    """A key file cannot be used; the message says why and what to do."""

    exit_code = EXIT_USAGE
    code = "operator_key_unusable"


@dataclass(frozen=True, slots=True, repr=False)
class NoiseKey:
    """The key that noise is drawn from, and its public name in a mechanism."""

    secret: bytes

    @property
    def id(self) -> bytes:
        """8 bytes that name the key and tell nothing about it."""
        # Derived by a label of its own, so that the name could not be used to draw.
        return hashlib.sha256(_derive(self.secret, "key-id")).digest()[:8]


@dataclass(frozen=True, slots=True, repr=False)
class OperatorKey:
    """32 secret bytes; every use has a key of its own (HKDF-SHA256 by label, RFC 5869)."""

    secret: bytes

    def derive_noise(self, deployment: bytes, serial: int = 0) -> NoiseKey:
        """The key that the aggregator of a deployment draws noise from."""
        # By deployment, so that whoever takes over staging's aggregator can take no noise off production's versions.
        return NoiseKey(_derive(self.secret, _label(NOISE, deployment, serial=serial)))

    def derive_subjects(self, deployment: bytes) -> bytes:
        """The key by which names of a deployment are known again (`schemas.identity.pseudonyms`)."""
        return _derive(self.secret, _label(SUBJECTS, deployment, serial=0))

    def find_noise(self, deployment: bytes, key_id: bytes) -> NoiseKey | None:
        """The noise key of this name in this deployment; None where the operator has issued none that is called so."""
        derived = (self.derive_noise(deployment, serial) for serial in range(SERIAL_MAX + 1))
        return next((key for key in derived if key.id == key_id), None)

    @property
    def signing(self) -> Ed25519PrivateKey:
        """The key that signs tasks, certificates and exports."""
        return Ed25519PrivateKey.from_private_bytes(_derive(self.secret, "operator"))

    @property
    def asked_by(self) -> str:
        """Nobody else: what this key signs the operator has decided."""
        return ""

    def write(self, event: TaskEvent) -> bytes:
        """The value of a record of `tasks`."""
        return sign_task_event(event, self.signing)

    @property
    def public_key(self) -> bytes:
        """32 bytes, for everybody: against it whoever reads the log checks what stands there."""
        return self.signing.public_key().public_bytes_raw()

    def issue(self, role: str, deployment: bytes, *, until_ms: int, serial: int = 0) -> RoleKey:
        """The key of one role in one deployment, certified up to `until_ms`; another by each serial."""
        # Derived, so that issuing again after a loss gives the same key; the operator alone can do either.
        secret = _derive(self.secret, _label(f"role/{role}", deployment, serial=serial))
        public_key = Ed25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
        certificate = Certificate(role=role, public_key=public_key, deployment=deployment, until_ms=until_ms)
        return RoleKey(
            role=role,
            deployment=deployment,
            until_ms=until_ms,
            operator=self.public_key,
            secret=secret,
            certificate=certify_key(certificate, self.signing),
            # A partial sum names no deployment: under one key a body's clip scale by staging's policy would count here.
            shared={
                # Names have to be known again whichever key hands out tokens, so that its serial plays no part.
                label: _derive(self.secret, _label(label, deployment, serial=0 if label == SUBJECTS else serial))
                for label in ROLE_SECRETS.get(role, ())
            },
        )


class RoleKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one role's workers hold: a certified key, the operator's public key, and the secrets that they share.

    `epoch_keys`: the folder of the keys of sealed tasks, for roles that open bodies; only settings say it.
    """

    role: str
    deployment: Deployment
    until_ms: int
    operator: PublicKey
    secret: Sha256
    certificate: bytes
    shared: dict[str, Sha256]
    epoch_keys: str | UnsetType = UNSET

    def __repr__(self) -> str:
        # The default would print secrets into a log.
        return f"RoleKey({self.role})"

    @property
    def signer(self) -> Signer:
        """Signs what the role says."""
        return Signer(Ed25519PrivateKey.from_private_bytes(self.secret), self.certificate, self._marks)

    def trust(self) -> Trust:
        """What the role believes."""
        return Trust(self.operator, self.deployment, self._marks)

    @property
    def _marks(self) -> bytes:
        # A file that was issued before there were marks goes on without: its leases are checked by their signatures.
        return self.shared.get(MARKS, b"")

    @property
    def noise(self) -> NoiseKey:
        """Raises KeyError for a role that draws none."""
        return NoiseKey(self.shared[NOISE])

    @property
    def noise_id(self) -> bytes:
        """The public name of the noise key; empty for a role that draws none."""
        return self.noise.id if NOISE in self.shared else b""


@dataclass(frozen=True, slots=True)
class Delegate:
    """A server that speaks for the operator, for somebody who asked it to; what it may say its certificate says."""

    key: RoleKey
    asked_by: str

    @property
    def public_key(self) -> bytes:
        """The operator's, which readers check its certificate against."""
        return self.key.operator

    def write(self, event: TaskEvent) -> bytes:
        """The value of a record of `tasks`."""
        return certify_task_event(event, self.key.signer)


# Who may write into `tasks`.
Author = OperatorKey | Delegate


class PartialSeals:
    """Seals what shard workers tell: whoever may write to `partials` could change a model otherwise."""

    def __init__(self, key: RoleKey) -> None:
        # A shared secret and no signature: a shard worker seals every body, and an HMAC costs a fiftieth.
        self._key = key.shared[PARTIALS]

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
    """Read the operator's key file. Raises OperatorKeyError when it is missing, open to others, or no key."""
    text = _read_private(path, made_by="fedlog key create").strip()
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
    secret = secrets.token_bytes(KEY_BYTES)
    # A key that is overwritten takes with it every open lease, and the noise that a full replay has to draw again.
    _write_private(path, secret.hex() + "\n", taken="a key that was in use must be kept for as long as its journals")
    return OperatorKey(secret)


def load_role(path: Path, role: str, *others: str) -> RoleKey:
    """Read the key file of this role, or of one of the others. Raises OperatorKeyError when it cannot be used."""
    text = _read_private(path, made_by=f"fedlog key issue --for {role}")
    try:
        key = msgspec.json.decode(text, type=RoleKey)
    except msgspec.DecodeError as error:
        # Without the cause: its text may quote what is in the file.
        raise OperatorKeyError(f"{path}: not the key file of a role; issue it again") from error
    if key.role not in (role, *others):
        raise OperatorKeyError(f"{path}: the key of {key.role}, not of {role}; see `fedlog key issue --for {role}`")
    return key


def save_role(key: RoleKey, path: Path) -> None:
    """Write a role's key file, mode 0600, in place of one that is there."""
    # Nothing is lost with the old one: the operator's key issues the same again.
    path.unlink(missing_ok=True)
    _write_private(path, msgspec.json.encode(key).decode() + "\n", taken="somebody wrote it at this moment")


def _label(use: str, deployment: bytes, *, serial: int) -> str:
    return f"{use}/{deployment.hex()}" + (f"/{serial}" if serial else "")


def _derive(secret: bytes, label: str) -> bytes:
    # One key a use, so that one that leaks, or is handed to another process, opens nothing else.
    return HKDF(SHA256(), 32, salt=None, info=f"fedlog/{label}/1".encode()).derive(secret)


def _read_private(path: Path, *, made_by: str) -> str:
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(errors="replace")
    except OSError as error:
        raise OperatorKeyError(f"{path}: {error.strerror}; make one with `{made_by}`") from error
    # A key that others could read may have been copied, and with it the noise of every release can be taken off.
    if mode & 0o077:
        raise OperatorKeyError(f"{path}: mode {mode:04o} lets others read it; run `chmod 600 {path}`")
    return text


def _write_private(path: Path, text: str, *, taken: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600, exist_ok=True)
    if path.read_bytes():
        raise OperatorKeyError(f"{path}: exists; {taken}")
    # Before the secret is in it: an empty file of another mode may have been there already.
    path.chmod(0o600)
    path.write_text(text)
