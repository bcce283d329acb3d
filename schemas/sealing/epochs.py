"""The public key of an epoch: the aggregator signs it, a selector passes it on, a device checks it and seals to it.

An epoch is a stretch of versions of one task. Its key pair is random, and its private half is destroyed after the last
lease and round under it, so that whoever takes over an aggregator later opens nothing of what the log has kept.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Signer, Trust, parse_certified
from schemas.identifiers import Count, Deployment, TaskId

# Not the selector, which passes it on: taken over it would name a key of its own.
AGGREGATOR = "aggregator"
# ML-KEM-768's encapsulation key, then X25519's public key.
EPOCH_KEY_BYTES = 1184 + 32


class EpochKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="EpochKey/1"):
    """The key to which the updates of one task are sealed, under leases that name this epoch."""

    deployment: Deployment
    task: TaskId
    epoch: Count
    public_key: Annotated[bytes, msgspec.Meta(min_length=EPOCH_KEY_BYTES, max_length=EPOCH_KEY_BYTES)]


def sign_epoch_key(key: EpochKey, signer: Signer) -> bytes:
    """The statement; `signer` is the aggregator's."""
    return signer.certify(encode(key))


def open_statement(statement: bytes, trust: Trust, *, at_ms: int) -> EpochKey | None:
    """The key, or None where no aggregator that the operator certified signed it; `at_ms` is when it was passed on."""
    payload = trust.read(statement, AGGREGATOR, at_ms=at_ms)
    if payload is None:
        return None
    try:
        key = decode(payload, EpochKey)
    except MalformedError:
        return None
    return key if trust.deployment in (None, key.deployment) else None


def read_statement(statement: bytes) -> EpochKey:
    """The key without a check of its signature. Raises MalformedError."""
    return decode(parse_certified(statement).payload, EpochKey)
