"""Who speaks in the vectors: a device, the operator, and the roles that the operator has certified."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from schemas.certificates import Certificate, Signer, certify_key

DEPLOYMENT = bytes(range(16))
TASK, UNTIL_MS, DEADLINE_MS = "wards.rings", 1_800_000_000_000, 1_790_000_600_000


def make_key(name: str) -> Ed25519PrivateKey:
    """The key of this name, the same each time."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


DEVICE, OPERATOR, SELECTOR, AGGREGATOR, ROLLOUT = map(
    make_key, ("device", "operator", "selector", "aggregator", "rollout")
)


def make_signer(role: str, key: Ed25519PrivateKey, *, operator: Ed25519PrivateKey = OPERATOR) -> Signer:
    """A role's key, certified by the operator until UNTIL_MS."""
    certificate = Certificate(
        role=role, public_key=key.public_key().public_bytes_raw(), deployment=DEPLOYMENT, until_ms=UNTIL_MS
    )
    return Signer(key, certify_key(certificate, operator))
