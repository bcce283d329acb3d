"""The record that submits an update: what a device writes is what the aggregator reads."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import MalformedError, encode
from schemas.devices import ED25519, tag_public_key
from schemas.events import Tick, UpdateSubmitted
from schemas.identifiers import BodyRef
from schemas.signing import sign
from schemas.updates import address_inline, parse_update, sign_update

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
BODY = b"a small body"
STORED = BodyRef(topic="bodies", partition=3, offsets=(7,), sha256=bytes(32), size=5, codec="int8")


def submitted(*, inline: bytes | None, body: BodyRef) -> UpdateSubmitted:
    """An update with this body."""
    return UpdateSubmitted(sealed=b"sealed", samples=7, metrics=(), body=body, inline=inline)


def test_a_record_reads_back_with_the_signature_of_its_device() -> None:
    """Both halves agree on the bytes, and another device's key does not pass for the signer's."""
    update = submitted(inline=None, body=STORED)
    parsed = parse_update(sign_update(update, KEY))
    assert parsed.submitted == update
    assert parsed.is_signed_by(tag_public_key(KEY))
    assert not parsed.is_signed_by(ED25519 + bytes(32))


def test_an_inline_body_lies_at_the_offset_of_its_record() -> None:
    """A device cannot know the place, so its address has none; the reader fills it in."""
    ref = address_inline(BODY, codec="int8")
    assert (ref.offsets, ref.size) == ((), len(BODY))
    located = parse_update(sign_update(submitted(inline=BODY, body=ref), KEY)).locate_body(3, 41)
    assert (located.topic, located.partition, located.offsets) == ("updates", 3, (41,))
    assert located.sha256 == hashlib.sha256(BODY).digest()


def test_what_a_device_claims_of_an_inline_body_is_not_believed() -> None:
    """Digest and size come from the bytes in the record, whatever the address says."""
    lie = submitted(inline=BODY, body=STORED)
    located = parse_update(sign_update(lie, KEY)).locate_body(3, 41)
    assert (located.size, located.sha256) == (len(BODY), hashlib.sha256(BODY).digest())


def test_a_stored_body_lies_where_the_record_says() -> None:
    """Without inline bytes the address is the device's own; whether it holds is found out on reading."""
    assert parse_update(sign_update(submitted(inline=None, body=STORED), KEY)).locate_body(3, 41) == STORED


def test_other_records_are_no_updates() -> None:
    """A signed event of another kind, and junk, are malformed."""
    for value in (b"", b"junk", sign(encode(Tick()), KEY)):
        with pytest.raises(MalformedError):
            parse_update(value)
