"""A device's signature over the raw bytes that it sends: sign and verify, side by side (Ed25519, RFC 8032)."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.canonical import decode, encode


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The bytes of an event, and the signature over exactly these bytes."""

    # Raw bytes and not a value, so that a check never depends on how a value is encoded.
    payload: bytes
    signature: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


def sign(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The record value: payload and signature."""
    return encode(Signed(payload, key.sign(payload)))


def parse_signed(data: bytes) -> Signed:
    """Split a record value; says nothing about who signed it. Raises MalformedError."""
    return decode(data, Signed)


def is_signed_by(message: Signed, public_key: bytes) -> bool:
    """Whether the holder of `public_key` (32 raw bytes) signed the payload."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(message.signature, message.payload)
    except (InvalidSignature, ValueError):
        return False
    return True
