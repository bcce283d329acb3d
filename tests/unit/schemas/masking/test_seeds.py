"""Sealed seeds: each opens for one helper and for one update, and for nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from schemas.leases import Lease
from schemas.masking.seeds import SEALED_SEED_BYTES, open_seed, seal_seeds, write_header
from schemas.sealing.envelopes import SECRET_BYTES, EpochSecret
from schemas.tensors import BodyError

SECRETS = [EpochSecret(bytes([number]) * SECRET_BYTES) for number in (1, 2)]
SEEDS = (b"\x07" * 32, b"\x09" * 32)
BODY = b"masked"
BODY_SHA256 = hashlib.sha256(BODY).digest()
LEASE = Lease(
    deployment=bytes(16),
    lease="0" * 32,
    task="phones.words",
    device="a",
    public_key=bytes(34),
    version=3,
    model_sha256=bytes(32),
    deadline_ms=9,
    policy_sha256=bytes(32),
    epoch=2,
)


def _seal() -> tuple[bytes, ...]:
    return seal_seeds(
        SEEDS, write_header(LEASE), body_sha256=BODY_SHA256, public_keys=[secret.public_key for secret in SECRETS]
    )


def _open(sealed: bytes, helper: int = 0, *, key: int = 0, body: bytes = BODY, **changes: Any) -> bytes:
    header = write_header(msgspec.structs.replace(LEASE, **changes))
    return open_seed(sealed, helper, header=header, body_sha256=hashlib.sha256(body).digest(), secret=SECRETS[key])


def test_each_helper_opens_its_own() -> None:
    """Both seeds arrive, and no seal is longer than another."""
    sealed = _seal()
    assert [_open(sealed[0]), _open(sealed[1], 1, key=1)] == [*SEEDS]
    assert {len(each) for each in sealed} == {SEALED_SEED_BYTES} == {1168}


@pytest.mark.parametrize(
    "changes",
    [
        {"deployment": b"x" * 16},
        {"task": "phones.other"},
        {"policy_sha256": b"x" * 32},
        {"lease": "1" * 32},
        {"device": "b"},
        {"version": 4},
        {"model_sha256": b"x" * 32},
        {"epoch": 3},
        {"body": b"other"},
        {"helper": 1},
        {"key": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_seal_that_is_moved_does_not_open(changes: dict[str, Any]) -> None:
    """It is bound to deployment, task, policy, lease, device, version, model, epoch, body and helper."""
    with pytest.raises(BodyError, match="not_opened"):
        _open(_seal()[0], **changes)


def test_what_is_no_seed_is_not_taken_for_one() -> None:
    """A device may seal anything."""
    sealed = seal_seeds(
        (b"short", SEEDS[1]), write_header(LEASE), body_sha256=BODY_SHA256, public_keys=[s.public_key for s in SECRETS]
    )
    with pytest.raises(BodyError, match="5 bytes, expected 32"):
        _open(sealed[0])
