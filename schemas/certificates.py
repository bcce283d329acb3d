"""Who may say what: the operator's key certifies one key for each role, and what a role says carries its certificate.

A reader holds the operator's public key and nothing else. It believes a message for two signatures (Ed25519, RFC 8032):
the operator's over the certificate, and the certified key's over the message. Where the message stands proves nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import UNSET

from schemas.canonical import MalformedError, decode, encode
from schemas.events import Answer, Enrolled, EnrolmentRefused, EvaluatorId, Outcome, VersionEvaluated
from schemas.identifiers import Deployment, PublicKey, TimeMs
from schemas.signing import Signed, is_signed_by, parse_signed, sign

CERTIFICATE_BYTES_MAX = 512
# More are never in use at once: a role has one, and a second while the first is being replaced.
REMEMBERED_MAX = 256
EVALUATOR = "evaluator"


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="Certificate/1"):
    """The operator says: this key speaks for this role of this deployment, in messages appended up to `until_ms`."""

    role: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{1,16}\Z")]
    public_key: PublicKey
    deployment: Deployment
    until_ms: TimeMs


class Certified(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a role says: the bytes of an event, the role's signature over exactly these bytes, and its certificate."""

    payload: bytes
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
    certificate: Annotated[bytes, msgspec.Meta(max_length=CERTIFICATE_BYTES_MAX)]


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A role's private key with its certificate; `marks` is the secret that leases are marked with, if it has one."""

    key: Ed25519PrivateKey
    certificate: bytes
    marks: bytes = b""

    def certify(self, payload: bytes) -> bytes:
        """The message."""
        return encode(Certified(payload, self.key.sign(payload), self.certificate))


def certify_key(certificate: Certificate, operator: Ed25519PrivateKey) -> bytes:
    """The certificate with the operator's signature."""
    return sign(encode(certificate), operator)


def parse_certified(data: bytes) -> Certified:
    """Split a message; says nothing about who signed it. Raises MalformedError."""
    return decode(data, Certified)


def read_certificate(data: bytes) -> Certificate:
    """What a certificate says, whoever signed it. Raises MalformedError."""
    return decode(parse_signed(data).payload, Certificate)


def name_evaluator(public_key: bytes) -> EvaluatorId:
    """How an evaluator is called in what it says: by its key, so that nobody can speak as another."""
    return hashlib.sha256(public_key).digest()[:8].hex()


def name_speaker(answer: Answer) -> str:
    """The role whose word an answer is: a selector that is taken over must not report outcomes, nor enrol anybody."""
    match answer:
        case Outcome():
            return "aggregator"
        case Enrolled() | EnrolmentRefused():
            return "registrar"
    return "selector"


@dataclass(slots=True)
class Trust:
    """What a reader believes: messages of roles that the holder of `operator` (a public key) has certified.

    `deployment` None accepts those of any: for a reader that compares it itself. `marks` is the secret that a reader of
    leases shares with the selector, if it does.
    """

    operator: bytes
    deployment: bytes | None = None
    marks: bytes = field(default=b"", repr=False)
    _known: dict[bytes, Certificate] = field(default_factory=dict)

    def read(self, data: bytes, role: str, *, at_ms: int, is_signed: bool = False) -> bytes | None:
        """The payload of a message that this role sent and the log appended at `at_ms`; None for any other.

        Of a message that `is_signed`, as the caller knows by other means, the certificate alone is checked.
        """
        try:
            message = parse_certified(data)
        except MalformedError:
            return None
        if is_signed:
            return message.payload if self.find_key(message.certificate, role, at_ms=at_ms) is not None else None
        return message.payload if self.vouches(message, role, at_ms=at_ms) else None

    def vouches(self, message: Certified, role: str, *, at_ms: int) -> bool:
        """Whether this role sent the message, under a certificate that held at `at_ms`."""
        key = self.find_key(message.certificate, role, at_ms=at_ms)
        return key is not None and is_signed_by(Signed(message.payload, message.signature), key)

    def find_key(self, certificate: bytes, role: str, *, at_ms: int) -> bytes | None:
        """The public key with which this role speaks, by a certificate that held at `at_ms`; None for any other."""
        found = self.find_certificate(certificate)
        if found is None or found.role != role or at_ms > found.until_ms:
            return None
        return found.public_key if self.deployment in (None, found.deployment) else None

    def find_certificate(self, data: bytes) -> Certificate | None:
        """What the operator certified; None for bytes that the operator did not sign."""
        if data not in self._known:
            try:
                signed = parse_signed(data)
                if not is_signed_by(signed, self.operator):
                    return None
                found = decode(signed.payload, Certificate)
            except MalformedError:
                return None
            # Only what the operator signed is remembered, so that strangers cannot fill the memory.
            if len(self._known) >= REMEMBERED_MAX:
                self._known.clear()
            self._known[data] = found
        return self._known[data]


def read_evaluation(data: bytes, trust: Trust, *, at_ms: int) -> VersionEvaluated | None:
    """What a certified evaluator says, in no name but its own; None for any other. Raises MalformedError."""
    message = parse_certified(data)
    if not trust.vouches(message, EVALUATOR, at_ms=at_ms):
        return None
    key = trust.find_key(message.certificate, EVALUATOR, at_ms=at_ms)
    evaluated = decode(message.payload, VersionEvaluated)
    # Certified for itself alone: under the name of another it would outvote those who do not lie.
    return evaluated if key is not None and evaluated.evaluator in (UNSET, name_evaluator(key)) else None
