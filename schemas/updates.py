"""The record that submits an update: a device writes it, the aggregator and its shard workers read it.

A small body travels in the record itself. Its address then names no place, because the device does not know the one
that the record will get; the reader fills in where it found the record, and which of many messages there it was.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import decode, encode
from schemas.devices import is_signed_by_device
from schemas.events import UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.signing import Signed, parse_signed, sign
from schemas.topics import UPDATES


@dataclass(frozen=True, slots=True)
class SignedUpdate:
    """A parsed record. Nothing has been checked: neither the seal of its lease nor its signature."""

    submitted: UpdateSubmitted
    message: Signed

    def is_signed_by(self, public_key: bytes) -> bool:
        """Whether the device that holds `public_key` signed the record."""
        return is_signed_by_device(self.message, public_key)

    def locate_body(self, partition: int, offset: int, *, message: int = 0) -> BodyRef:
        """The address of the body, for a message found at this place of `updates`: its record, and its number there.

        What the record says of an inline body is ignored but for the codec: size and digest follow from its bytes.
        """
        # An honest device says the same; a forged digest must not let one body pass for another.
        inline, body = self.submitted.inline, self.submitted.body
        if inline is None:
            return body
        address = _address(inline, partition=partition, offsets=(offset,), codec=body.codec)
        return msgspec.structs.replace(address, message=message) if message else address


def sign_update(submitted: UpdateSubmitted, key: Ed25519PrivateKey) -> bytes:
    """The record's value."""
    return sign(encode(submitted), key)


def parse_update(value: bytes) -> SignedUpdate:
    """Read a record's value. Raises MalformedError."""
    message = parse_signed(value)
    return SignedUpdate(decode(message.payload, UpdateSubmitted), message)


def address_inline(data: bytes, *, codec: str) -> BodyRef:
    """The address that means "in this very record"."""
    return _address(data, partition=0, offsets=(), codec=codec)


def _address(data: bytes, *, partition: int, offsets: tuple[int, ...], codec: str) -> BodyRef:
    return BodyRef(
        topic=UPDATES.name,
        partition=partition,
        offsets=offsets,
        sha256=hashlib.sha256(data).digest(),
        size=len(data),
        codec=codec,
    )
