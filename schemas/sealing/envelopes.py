"""The sealed body of an update, both halves: a device seals, aggregator, shard workers and audit open.

    HPKE (RFC 9180), base mode: ML-KEM-768 with X25519, HKDF-SHA256, ChaCha20-Poly1305
    info      = canonical bytes of `Binding`: the body opens under no other lease, device, task or deployment
    envelope  = encapsulated key, 1,120 bytes, then the ciphertext and its tag
    plaintext = u2 length of the head, the head (canonical bytes of `_Head`), the body, zeros up to one of a few sizes

Hybrid, because a log that is kept is there to be decrypted later. The sizes follow from the policy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from schemas.canonical import MalformedError, decode, encode
from schemas.identifiers import Count, Deployment, DeviceId, LeaseId, Sha256, TaskId, Version
from schemas.policy import Policy
from schemas.policy.metrics import METRICS_MAX, Reported
from schemas.tensors import BodyError, body_bytes_max

# One for all tasks: a choice would be one more thing that somebody in between could turn down.
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_MLKEM_PUBLIC_BYTES, _MLKEM_SEED_BYTES, _X25519_BYTES = 1184, 64, 32
SECRET_BYTES = _MLKEM_SEED_BYTES + _X25519_BYTES
# What an envelope adds to its plaintext: the encapsulated key and the tag.
ENVELOPE_BYTES = 1120 + 16
_LENGTH_BYTES = 2
# The longest head: two arrays, and nine bytes for each number.
_HEAD_BYTES_MAX = 16 + 9 * (1 + METRICS_MAX)
# The full size and its half, quarter and eighth: two bits are all that a length tells.
_HALVINGS = 3


class Binding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="SealedBody/1"):
    """What a body was sealed for; with one other word in it nothing opens."""

    deployment: Deployment
    task: TaskId
    policy_sha256: Sha256
    epoch: Count
    lease: LeaseId
    device: DeviceId
    version: Version


class _Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    body_bytes: Count
    metrics: Reported


@dataclass(frozen=True, slots=True)
class Contents:
    """What is inside: the body as its codec wrote it, and what the device reports of its training."""

    body: bytes
    metrics: Reported = ()


class EpochSecret:
    """The private half of an epoch's key."""

    def __init__(self, secret: bytes) -> None:
        """`secret`: SECRET_BYTES, the seed of ML-KEM, then the key of X25519. Raises ValueError for other lengths."""
        if len(secret) != SECRET_BYTES:
            raise ValueError(f"{len(secret)} bytes, expected {SECRET_BYTES}")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(secret[:_MLKEM_SEED_BYTES])
        x25519 = X25519PrivateKey.from_private_bytes(secret[_MLKEM_SEED_BYTES:])
        self.public_key = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        self._key = MLKEM768X25519PrivateKey(mlkem, x25519)

    def open(self, envelope: bytes, info: bytes) -> bytes:
        """The plaintext. Raises BodyError where it was sealed to another key or for something else, or was changed."""
        try:
            return _SUITE.decrypt(envelope, self._key, info)
        except (InvalidTag, ValueError) as error:
            raise BodyError("not_opened", "sealed to another key or for something else, or changed since") from error


def seal(plaintext: bytes, public_key: bytes, *, info: bytes) -> bytes:
    """The envelope, another each time; `public_key` is an EpochKey's."""
    mlkem = MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_BYTES])
    x25519 = X25519PublicKey.from_public_bytes(public_key[_MLKEM_PUBLIC_BYTES:])
    return _SUITE.encrypt(plaintext, MLKEM768X25519PublicKey(mlkem, x25519), info)


def write_info(binding: Binding) -> bytes:
    """What both sides bind an envelope to."""
    return encode(binding)


def seal_body(contents: Contents, binding: Binding, *, public_key: bytes, sizes: tuple[int, ...]) -> bytes:
    """The body as it leaves the device; `sizes` are those of `list_sizes`."""
    head = encode(_Head(len(contents.body), contents.metrics))
    plaintext = b"".join((len(head).to_bytes(_LENGTH_BYTES, "little"), head, contents.body))
    # The largest holds the longest body of the codec with as many metrics as there may be.
    size = next(size for size in sizes if size >= len(plaintext))
    return seal(plaintext.ljust(size, b"\0"), public_key, info=write_info(binding))


def open_body(envelope: bytes, binding: Binding, *, secret: EpochSecret) -> Contents:
    """What the device put inside. Raises BodyError."""
    plaintext = secret.open(envelope, write_info(binding))
    start = _LENGTH_BYTES + int.from_bytes(plaintext[:_LENGTH_BYTES], "little")
    try:
        head = decode(plaintext[_LENGTH_BYTES:start], _Head)
    except MalformedError as error:
        raise BodyError("body_malformed", f"a sealed body holds something else: {error}") from error
    end = start + head.body_bytes
    # One form for one content: bytes that nobody looks at would be a channel of their own.
    if end > len(plaintext) or plaintext.count(0, end) != len(plaintext) - end:
        raise BodyError("body_malformed", "a sealed body is shorter than it says, or its padding is not zeros")
    return Contents(plaintext[start:end], head.metrics)


def list_sizes(policy: Policy, parameters: int) -> tuple[int, ...]:
    """The sizes to which a plaintext is padded, ascending. With privacy there is one, or a zero vector would show."""
    full = _LENGTH_BYTES + _HEAD_BYTES_MAX + body_bytes_max(policy.compression, parameters)
    halvings = _HALVINGS if policy.privacy is None else 0
    return tuple(full >> halving for halving in range(halvings, -1, -1))


def compute_stored_bytes_max(policy: Policy, parameters: int) -> int:
    """No body of an update, as it is stored, is longer, in whichever tier."""
    if policy.is_masked:
        return 4 * parameters
    if not policy.is_sealed:
        return body_bytes_max(policy.compression, parameters)
    return list_sizes(policy, parameters)[-1] + ENVELOPE_BYTES
