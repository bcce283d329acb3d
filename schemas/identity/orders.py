"""What is said to the registrar in the operator's name: by the operator, or by an enroller whom the operator certified.

An enroller, such as a help desk, hands out tokens, opens and closes enrolments and revokes; it can neither create a
task nor issue a certificate. Whoever holds the operator's public key can check all of it without asking anybody.
"""

from __future__ import annotations

from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Signer, Trust, parse_certified
from schemas.events import EnrolmentOrder
from schemas.signing import is_signed_by, parse_signed, sign

ENROLLER = "enroller"


def say_in_name(said: msgspec.Struct, author: Ed25519PrivateKey | Signer) -> bytes:
    """The words with the operator's own signature, or an enroller's with its certificate."""
    return author.certify(encode(said)) if isinstance(author, Signer) else sign(encode(said), author)


def hear_in_name(data: bytes, kind: Any, *, trust: Trust, at_ms: int) -> Any:
    """What was said by the operator or an enroller, if it is of this kind; None for whatever else.

    `at_ms` is when it was said, as far as the reader knows: an enroller's certificate ends.
    """
    try:
        return decode(payload, kind) if (payload := _find_payload(data, trust, at_ms=at_ms)) is not None else None
    except MalformedError:
        return None


def hear_order(data: bytes, *, trust: Trust, at_ms: int) -> EnrolmentOrder | None:
    """An order to the registrar of this deployment; a copy of another deployment's is none."""
    order: EnrolmentOrder | None = hear_in_name(data, EnrolmentOrder, trust=trust, at_ms=at_ms)
    return order if order is not None and order.deployment == trust.deployment else None


def _find_payload(data: bytes, trust: Trust, *, at_ms: int) -> bytes | None:
    try:
        signed = parse_signed(data)
    except MalformedError:
        message = parse_certified(data)
        return message.payload if trust.vouches(message, ENROLLER, at_ms=at_ms) else None
    # The signature first: of what a stranger wrote nothing is decoded.
    return signed.payload if is_signed_by(signed, trust.operator) else None
