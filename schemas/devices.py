"""A device is its key: the id is a digest of the public key, so that nobody can take or hold another's name.

Of what a device signs an update names its deployment in the lease that it carries; a check-in names it in what is
signed, so that one that was sent to another deployment of the same operator is none here.

A key says which algorithm it is of, by the prefix that multicodec gives it; today that is Ed25519 alone. P-256, which
the secure hardware of phones signs with, is one more prefix here.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.canonical import encode
from schemas.events import DeviceCheckedIn, LeaseAbandoned
from schemas.identifiers import DeviceId
from schemas.signing import Signed, is_signed_by

ED25519 = b"\xed\x01"  # multicodec 0xed, as an unsigned varint
_RAW_BYTES = 32
ID_DIGITS = 32
# Points of small order on edwards25519, in every encoding without its sign bit: libsodium refuses the same seven
# (ge25519_has_small_order). Under such a key one signature holds for many messages, and needs no private key.
_SMALL_ORDER = frozenset(
    bytes.fromhex(encoding)
    for encoding in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)


def tag_public_key(key: Ed25519PrivateKey) -> bytes:
    """The public half of a device's key with its prefix, as it stands in check-ins and leases."""
    return ED25519 + key.public_key().public_bytes_raw()


def name_device(public_key: bytes) -> DeviceId:
    """The id of the device that holds this key: 128 bits of its sha256, in hex."""
    return hashlib.sha256(public_key).hexdigest()[:ID_DIGITS]


def is_signed_by_device(message: Signed, public_key: bytes) -> bool:
    """Whether the holder of this key signed the payload; never for a key that nobody need hold."""
    raw = public_key.removeprefix(ED25519)
    if len(raw) != _RAW_BYTES or not public_key.startswith(ED25519) or _is_of_small_order(raw):
        return False
    return is_signed_by(message, raw)


def sign_checkin(checkin: DeviceCheckedIn | LeaseAbandoned, key: Ed25519PrivateKey, *, deployment: bytes) -> bytes:
    """The record of a check-in, or of the end of a lease, that is good in one deployment alone."""
    payload = encode(checkin)
    return encode(Signed(payload, key.sign(_name_deployment(deployment) + payload)))


def is_checkin_signed(message: Signed, public_key: bytes, *, deployment: bytes) -> bool:
    """Whether the holder of this key asked the selector of this deployment, in these words."""
    named = _name_deployment(deployment) + message.payload
    return is_signed_by_device(Signed(named, message.signature), public_key)


def _name_deployment(deployment: bytes) -> bytes:
    # Signed and not sent: both sides know it, and a check-in is the record of which there are most.
    return b"fedlog/checkin/1" + deployment


def _is_of_small_order(raw: bytes) -> bool:
    # The sign of x is the highest bit; a point and its negative have the same order.
    return raw[:-1] + bytes([raw[-1] & 0x7F]) in _SMALL_ORDER
