"""A token: the permission for one enrolment, good once and for ten minutes, which a person carries to a device.

It is made where the operator's key lies, or an enroller's, and the registrar checks it without asking anybody. It holds
no name: who it is for stands in it as a pseudonym (`schemas.identity.pseudonyms`). Whoever has it may use it, once and
before anybody else has; one that names a device is of use to that device alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import MalformedError
from schemas.certificates import Signer, Trust
from schemas.events.enrolment import TOKEN_BYTES_MAX, DeviceClass, SubjectId
from schemas.identifiers import Deployment, DeviceId, Population, Salt, TimeMs
from schemas.identity.orders import hear_in_name, say_in_name

TOKEN_MS = 600_000
# The clocks of who makes it and of the log differ.
SKEW_MS = 120_000
_PREFIX = "fedlog-enrol-"


class EnrolmentToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="EnrolmentToken/1"):
    """One device of `subject` may enrol in a population, in this class, in a request appended up to `until_ms`."""

    deployment: Deployment
    population: Population
    device_class: DeviceClass
    subject: SubjectId
    # None: whichever comes with it first.
    device: DeviceId | None
    until_ms: TimeMs
    # Random, so that two tokens of one subject are two.
    nonce: Salt


def sign_token(token: EnrolmentToken, author: Ed25519PrivateKey | Signer) -> bytes:
    """The token as a request carries it."""
    return say_in_name(token, author)


def open_token(data: bytes, *, trust: Trust, at_ms: int) -> EnrolmentToken | None:
    """The token, or None where nobody who may has signed it for this deployment."""
    token: EnrolmentToken | None = hear_in_name(data, EnrolmentToken, trust=trust, at_ms=at_ms)
    return token if token is not None and token.deployment == trust.deployment else None


def name_token(data: bytes) -> bytes:
    """By what a spent token is remembered."""
    return hashlib.sha256(data).digest()


def write_token(data: bytes) -> str:
    """The token as a person copies it: one word."""
    return _PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def read_token(text: str) -> bytes:
    """The token in what a person typed. Raises MalformedError."""
    word = text.strip().removeprefix(_PREFIX)
    try:
        data = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError("no enrolment token: copy it whole") from error
    if not 0 < len(data) <= TOKEN_BYTES_MAX:
        raise MalformedError("no enrolment token: copy it whole")
    return data
