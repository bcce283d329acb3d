"""The sealed lease: opened with its key alone, read by anybody, changed by nobody."""

from __future__ import annotations

import hmac

import pytest

from schemas.canonical import MalformedError, encode
from schemas.leases import Lease, open_lease, read_lease, seal_lease

KEY = bytes(range(32))
LEASE = Lease(
    lease="0" * 32,
    task="digits",
    device="phone-7",
    public_key=b"p" * 32,
    version=3,
    model_sha256=b"m" * 32,
    deadline_ms=1_700_000_000_000,
    policy_sha256=b"r" * 32,
)


def test_a_device_reads_the_lease_that_it_cannot_check() -> None:
    """A device has no key: it reads the payload and leaves the seal alone."""
    sealed = seal_lease(LEASE, KEY)
    assert read_lease(sealed) == LEASE
    assert read_lease(seal_lease(LEASE, bytes(32))) == LEASE


def test_only_the_key_that_sealed_a_lease_opens_it() -> None:
    """Another operator's seal opens to nothing."""
    assert open_lease(seal_lease(LEASE, KEY), KEY) == LEASE
    assert open_lease(seal_lease(LEASE, bytes(32)), KEY) is None


def test_the_bytes_on_the_wire_stay() -> None:
    """A sealed lease is an array of payload and seal: devices in the field hold such bytes across an upgrade."""
    payload = encode(LEASE)
    mac = hmac.digest(KEY, payload, "sha256")
    assert seal_lease(LEASE, KEY) == encode([payload, mac])


def test_a_seal_over_anything_else_is_no_lease() -> None:
    """Right seal, wrong payload: the bytes are refused, and a reader without the key says why."""
    sealed = encode([encode([1, 2]), bytes(32)])
    assert open_lease(sealed, KEY) is None
    with pytest.raises(MalformedError):
        read_lease(sealed)
