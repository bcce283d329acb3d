"""A device is its key: its id follows from it, and a key that nobody need hold is no device's."""

from __future__ import annotations

import hashlib

import pytest

from schemas.canonical import encode
from schemas.devices import (
    _SMALL_ORDER,
    ED25519,
    is_checkin_signed,
    is_signed_by_device,
    name_device,
    sign_checkin,
    tag_public_key,
)
from schemas.signing import Signed, is_signed_by, parse_signed, sign
from tests.worlds.builders import device_checked_in, device_key

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
KEY = device_key("a")
SIGNED = parse_signed(sign(b"payload", KEY))


def test_the_id_is_a_digest_of_the_key() -> None:
    """128 bits of sha256 over the tagged key: another key is another device."""
    key = tag_public_key(KEY)
    assert key == b"\xed\x01" + KEY.public_key().public_bytes_raw()
    assert name_device(key) == hashlib.sha256(key).hexdigest()[:32]
    assert name_device(tag_public_key(device_key("b"))) != name_device(key)


def test_a_signature_needs_the_key_and_its_algorithm() -> None:
    """The holder's signature counts; under another key, another algorithm, or bare bytes nothing does."""
    raw = KEY.public_key().public_bytes_raw()
    assert is_signed_by_device(SIGNED, tag_public_key(KEY))
    for key in (tag_public_key(device_key("b")), raw, b"\x80\x24" + raw, b"\xed\x01" + raw + b"\0", b""):
        assert not is_signed_by_device(SIGNED, key)


def test_a_check_in_is_good_in_one_deployment() -> None:
    """The deployment is signed and not sent: under another, or none, the same record is nobody's, at no byte more."""
    checkin, here, there = device_checked_in("a"), b"h" * 16, b"t" * 16
    record = sign_checkin(checkin, KEY, deployment=here)
    message, key = parse_signed(record), tag_public_key(KEY)
    assert is_checkin_signed(message, key, deployment=here)
    assert not is_checkin_signed(message, key, deployment=there)
    assert not is_checkin_signed(message, tag_public_key(device_key("b")), deployment=here)
    assert not is_signed_by_device(message, key)
    assert len(record) == len(sign(encode(checkin), KEY))


def _recover_x(y: int) -> int | None:
    """RFC 8032, 5.1.3: a square root of (y^2 - 1) / (d y^2 + 1)."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    if root * root % P != square:
        root = root * pow(2, (P - 1) // 4, P) % P
    return root if root * root % P == square else None


def _double(x: int, y: int) -> tuple[int, int]:
    """RFC 8032, 5.1.4, in affine coordinates."""
    product = D * x * x * y * y % P
    return 2 * x * y * pow(1 + product, -1, P) % P, (y * y + x * x) * pow(1 - product, -1, P) % P


@pytest.mark.parametrize("encoding", sorted(_SMALL_ORDER), ids=lambda data: data.hex()[:8])
@pytest.mark.parametrize("sign_bit", [0, 0x80])
def test_a_key_of_small_order_signs_nothing(encoding: bytes, sign_bit: int) -> None:
    """Eight times the point is the neutral element, so anybody can sign under it: it is no device's key."""
    y = int.from_bytes(encoding, "little") % P
    x = _recover_x(y)
    assert x is not None
    point = (x, y)
    for _ in range(3):
        point = _double(*point)
    assert point == (0, 1)
    key = ED25519 + encoding[:-1] + bytes([encoding[-1] | sign_bit])
    # R = the neutral element, s = 0: valid for every message under the key of order one.
    forged = Signed(b"anything", (1).to_bytes(32, "little") + bytes(32))
    assert not is_signed_by_device(forged, key)


def test_the_list_has_every_point_of_small_order() -> None:
    """The eight points of the torsion group have five values of y; two more are encodings beyond the prime."""
    torsion = {int.from_bytes(encoding, "little") % P for encoding in _SMALL_ORDER}
    assert len(torsion) == 5
    assert {0, 1, P - 1} < torsion


def test_a_forgery_under_the_neutral_element_would_hold() -> None:
    """Why they are refused: the library verifies a signature that nobody made."""
    neutral = (1).to_bytes(32, "little")
    assert is_signed_by(Signed(b"anything", neutral + bytes(32)), neutral)
