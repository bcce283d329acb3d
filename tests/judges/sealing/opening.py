"""Opens a sealed body as RFC 9180 and X-Wing (draft-connolly-cfrg-xwing-kem) write it, with none of the product's code.

The primitives are those of `cryptography`; its HPKE is not.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from msgspec import msgpack

from schemas.events import TaskCreated, UpdateAdmitted

_XWING_LABEL = bytes.fromhex("5c2e2f2f5e5c")
# KEM X-Wing, KDF HKDF-SHA256, AEAD ChaCha20-Poly1305.
_SUITE = b"HPKE" + bytes.fromhex("647a00010003")


def find_secret(folder: Path | None, created: TaskCreated, epoch: int) -> bytes | None:
    """The private key of an epoch, where it still lies."""
    path = folder and folder / f"{created.deployment.hex()}.{created.task}.{epoch}.key"
    return path.read_bytes() if path and path.exists() else None


def open_member(created: TaskCreated, member: UpdateAdmitted, envelope: bytes, *, secret: bytes) -> bytes:
    """The body in an envelope, as its codec wrote it. Raises whatever is wrong with it."""
    info = msgpack.encode(
        {
            "type": "SealedBody/1",
            "deployment": created.deployment,
            "task": created.task,
            "policy_sha256": created.policy_sha256,
            "epoch": member.epoch,
            "lease": member.update,
            "device": member.device,
            "version": member.version,
        }
    )
    plaintext = decrypt(envelope, secret, info)
    start = 2 + int.from_bytes(plaintext[:2], "little")
    length, _ = msgpack.decode(plaintext[2:start])
    assert not any(plaintext[start + length :]), "the padding is not zeros"
    return plaintext[start : start + length]


def decrypt(envelope: bytes, secret: bytes, info: bytes) -> bytes:
    """The plaintext of an envelope; `secret` is the seed of ML-KEM, then the key of X25519. Raises InvalidTag."""
    shared = _decapsulate(envelope[:1120], secret)
    context = b"\0" + _extract(b"", b"psk_id_hash", b"") + _extract(b"", b"info_hash", info)
    extracted = _extract(shared, b"secret", b"")
    key = _expand(extracted, b"key", context, 32)
    nonce = _expand(extracted, b"base_nonce", context, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, envelope[1120:], b"")


def _decapsulate(encapsulated: bytes, secret: bytes) -> bytes:
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(secret[:64]), X25519PrivateKey.from_private_bytes(secret[64:])
    theirs = encapsulated[1088:]
    parts = (
        mlkem.decapsulate(encapsulated[:1088]),
        x25519.exchange(X25519PublicKey.from_public_bytes(theirs)),
        theirs,
        x25519.public_key().public_bytes_raw(),
        _XWING_LABEL,
    )
    return hashlib.sha3_256(b"".join(parts)).digest()


def _extract(salt: bytes, label: bytes, value: bytes) -> bytes:
    return hmac.digest(salt, b"HPKE-v1" + _SUITE + label + value, "sha256")


def _expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    told = length.to_bytes(2, "big") + b"HPKE-v1" + _SUITE + label + context
    return hmac.digest(secret, told + b"\x01", "sha256")[:length]
