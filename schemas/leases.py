"""The signed lease: the selector signs it, a device reads it and carries it back, the aggregator opens it.

The selector's signature and certificate are inside, so that no actor needs to ask another whether a lease was granted,
and nobody needs a secret to check one: devices do so too. Beside them stands a mark for the aggregator alone.
"""

from __future__ import annotations

import hmac
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Signer, Trust, parse_certified
from schemas.events.enrolment import SubjectId
from schemas.identifiers import Count, Deployment, DeviceId, DeviceKey, LeaseId, Sha256, TaskId, TimeMs, Version

SELECTOR = "selector"
LEASE_BYTES_MAX = 768
MARK_BYTES = 32
# How much longer than its policy says a lease may seem: a selector counts from its own log time, brokers' clocks differ
# from each other, and a device's clock is up to ten minutes from log time.
LEASE_MARGIN_MS = 1_200_000


class Lease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="Lease/1"):
    """The right of one device to train once, from one version, until the deadline (append time of its update)."""

    # One key may serve two deployments: without its name a lease of one would be good in the other.
    deployment: Deployment
    lease: LeaseId
    task: TaskId
    device: DeviceId
    public_key: DeviceKey
    version: Version
    # What the device was told to start from: a model that was swapped on the way shows.
    model_sha256: Sha256
    # In the log's time, which no device can move.
    deadline_ms: TimeMs
    policy_sha256: Sha256
    subject: SubjectId | UnsetType = UNSET
    # Under whose key the update is sealed, where the policy asks for that.
    epoch: Count | UnsetType = UNSET


class Marked(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The signed lease with its mark: an HMAC over it, or nothing from a selector that holds no secret for marks."""

    signed: bytes
    mark: Annotated[bytes, msgspec.Meta(max_length=MARK_BYTES)]


def sign_lease(lease: Lease, signer: Signer) -> bytes:
    """The lease as a device carries it; `signer` is the selector's."""
    signed = signer.certify(encode(lease))
    return encode(Marked(signed, _mark(signed, signer.marks)))


def open_lease(sealed: bytes, trust: Trust, *, at_ms: int, is_signed: bool = False) -> Lease | None:
    """The lease, or None where no selector that the operator certified signed it; `at_ms` is when it was used.

    Of one that `is_signed`, as the caller has seen before, the certificate alone is checked.
    """
    try:
        marked = decode(sealed, Marked)
        # A signature costs fifty times a mark. One that is wrong or missing says nothing: the signature is checked.
        holds = is_signed or (
            trust.marks != b"" and hmac.compare_digest(marked.mark, _mark(marked.signed, trust.marks))
        )
        payload = trust.read(marked.signed, SELECTOR, at_ms=at_ms, is_signed=holds)
        if payload is None or len(payload) > LEASE_BYTES_MAX:
            return None
        lease = decode(payload, Lease)
    except MalformedError:
        return None
    return lease if trust.deployment in (None, lease.deployment) else None


def is_overlong(lease: Lease, *, lease_ms: int, at_ms: int) -> bool:
    """Whether a lease that was used at `at_ms` lasts longer than its policy, of leases of `lease_ms`, can have granted.

    Outcomes are remembered and forgotten by the deadlines of leases, which a selector could otherwise move at will.
    """
    return lease.deadline_ms > at_ms + lease_ms + LEASE_MARGIN_MS


def read_lease(sealed: bytes) -> Lease:
    """The lease without a check of its signature. Raises MalformedError."""
    return decode(parse_certified(decode(sealed, Marked).signed).payload, Lease)


def _mark(signed: bytes, secret: bytes) -> bytes:
    """Over signature and certificate too: whoever believes the mark believes that the selector made just these."""
    return hmac.digest(secret, signed, "sha256") if secret else b""
