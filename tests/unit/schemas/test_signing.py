"""A device's signature is over exactly the bytes that it sent."""

from __future__ import annotations

import pytest

from schemas.canonical import MalformedError, encode
from schemas.signing import is_signed_by, parse_signed, sign
from tests.worlds.builders import device_checked_in, device_key

PAYLOAD = encode(device_checked_in("a"))


def _raw(device: str) -> bytes:
    return device_key(device).public_key().public_bytes_raw()


def test_a_signed_record_reads_back() -> None:
    """Payload and signature come out as they went in, and the signer's key verifies them."""
    message = parse_signed(sign(PAYLOAD, device_key("a")))
    assert message.payload == PAYLOAD
    assert is_signed_by(message, _raw("a"))


def test_another_key_did_not_sign() -> None:
    """A key of somebody else, and bytes that are no key at all, verify nothing."""
    message = parse_signed(sign(PAYLOAD, device_key("a")))
    assert not is_signed_by(message, _raw("b"))
    assert not is_signed_by(message, b"no key")


@pytest.mark.parametrize("at", [0, 20, len(PAYLOAD) - 1])
def test_a_changed_payload_is_not_signed(at: int) -> None:
    """One flipped bit anywhere in the payload."""
    changed = bytearray(PAYLOAD)
    changed[at] ^= 1
    message = parse_signed(sign(PAYLOAD, device_key("a")))
    assert not is_signed_by(type(message)(bytes(changed), message.signature), _raw("a"))


@pytest.mark.parametrize("data", [b"", PAYLOAD, encode([PAYLOAD, bytes(63)]), encode([PAYLOAD, bytes(64), b""])])
def test_what_is_no_signed_record_is_malformed(data: bytes) -> None:
    """A signature has 64 bytes, and nothing stands beside the two."""
    with pytest.raises(MalformedError):
        parse_signed(data)
