"""The sealed lease: the selector seals it, a device reads it and carries it back, the aggregator opens it.

The seal is an HMAC with a key that only the operator's actors have, so that no actor needs to ask another whether a
lease was granted. A device cannot check it and need not.
"""

from __future__ import annotations

import hmac
from typing import Annotated

import msgspec

from schemas.canonical import MalformedError, decode, encode
from schemas.identifiers import DeviceId, LeaseId, PublicKey, Sha256, TaskId, TimeMs, Version


class Lease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The right of one device to train once, from one version, until the deadline (append time of its update)."""

    lease: LeaseId
    task: TaskId
    device: DeviceId
    public_key: PublicKey
    version: Version
    # What the device was told to start from: a model that was swapped on the way shows.
    model_sha256: Sha256
    # In the log's time, which no device can move.
    deadline_ms: TimeMs
    policy_sha256: Sha256


class SealedLease(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A lease's bytes and the HMAC-SHA256 over them."""

    payload: Annotated[bytes, msgspec.Meta(max_length=768)]
    seal: Sha256


def seal_lease(lease: Lease, key: bytes) -> bytes:
    """The sealed lease as a device carries it; `key` has 32 bytes."""
    payload = encode(lease)
    return encode(SealedLease(payload, _mac(payload, key)))


def open_lease(sealed: bytes, key: bytes) -> Lease | None:
    """The lease, or None where it was not sealed with `key`."""
    try:
        token = decode(sealed, SealedLease)
        # Compared in constant time, and before the payload is decoded: a forger learns nothing from either.
        if not hmac.compare_digest(token.seal, _mac(token.payload, key)):
            return None
        return decode(token.payload, Lease)
    except MalformedError:
        return None


def read_lease(sealed: bytes) -> Lease:
    """The lease without a check of its seal, for a reader that has no key. Raises MalformedError."""
    return decode(decode(sealed, SealedLease).payload, Lease)


def _mac(payload: bytes, key: bytes) -> bytes:
    return hmac.digest(key, payload, "sha256")
