"""The seeds of one update's masks: what they are bound to, and how each reaches its helper alone.

    header = canonical bytes of `MaskHeader`
    sealed = HPKE to the helper's key of the epoch, info = "hmask1|seal|j|" | header | sha256 of the masked body

The suite is that of the tier sealed. Whoever moves a sealed seed, or the body beside it, to another task, lease,
version, epoch or device gets something that does not open.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.canonical import encode
from schemas.identifiers import Count, Deployment, DeviceId, LeaseId, Sha256, TaskId, Version
from schemas.leases import Lease
from schemas.masking.ring import SEED_BYTES
from schemas.sealing.envelopes import ENVELOPE_BYTES, EpochSecret, seal
from schemas.tensors import BodyError

SEALED_SEED_BYTES = ENVELOPE_BYTES + SEED_BYTES


class MaskHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="MaskHeader/1"):
    """What masks and seeds are for. The lease is the update's name too, and `model_sha256` what it was trained from."""

    deployment: Deployment
    task: TaskId
    policy_sha256: Sha256
    lease: LeaseId
    device: DeviceId
    version: Version
    model_sha256: Sha256
    epoch: Count


def write_header(lease: Lease) -> bytes:
    """The header of the update under a lease that names an epoch."""
    assert isinstance(lease.epoch, int)
    header = MaskHeader(
        deployment=lease.deployment,
        task=lease.task,
        policy_sha256=lease.policy_sha256,
        lease=lease.lease,
        device=lease.device,
        version=lease.version,
        model_sha256=lease.model_sha256,
        epoch=lease.epoch,
    )
    return encode(header)


def seal_seeds(
    seeds: Sequence[bytes], header: bytes, *, body_sha256: bytes, public_keys: Sequence[bytes]
) -> tuple[bytes, ...]:
    """Each seed for its helper alone, in their order, beside the masked vector that has this digest."""
    return tuple(
        seal(seed, public_key, info=_write_info(helper, header, body_sha256=body_sha256))
        for helper, (seed, public_key) in enumerate(zip(seeds, public_keys, strict=True))
    )


def open_seed(sealed: bytes, helper: int, *, header: bytes, body_sha256: bytes, secret: EpochSecret) -> bytes:
    """The seed that a device has sealed to this helper. Raises BodyError where it was sealed for anything else."""
    seed = secret.open(sealed, _write_info(helper, header, body_sha256=body_sha256))
    if len(seed) != SEED_BYTES:
        raise BodyError("not_opened", f"a seed of {len(seed)} bytes, expected {SEED_BYTES}")
    return seed


def _write_info(helper: int, header: bytes, *, body_sha256: bytes) -> bytes:
    return b"hmask1|seal|%d|" % helper + header + body_sha256
