"""The signed lease: checked by anybody who knows the operator's public key, changed by nobody."""

from __future__ import annotations

import msgspec
import pytest

from actors.keys import OperatorKey
from schemas.canonical import MalformedError, encode
from schemas.certificates import Trust
from schemas.leases import open_lease, read_lease, sign_lease
from schemas.updates import parse_update
from tests.worlds.builders import DEPLOYMENT, KEY, body_ref, lease, role_key, signed, trust, update_submitted

SIGNER = role_key("selector").signer
LEASE = lease("phone-7", version=3)
SEALED = sign_lease(LEASE, SIGNER)


def test_whoever_knows_the_operator_checks_a_lease() -> None:
    """The aggregator, a device, a gateway: no secret is needed."""
    assert open_lease(SEALED, trust(), at_ms=1) == LEASE
    assert open_lease(SEALED, Trust(KEY.public_key), at_ms=1) == LEASE
    assert read_lease(SEALED) == LEASE


def test_any_changed_byte_breaks_a_lease() -> None:
    """Not one byte can be changed, whatever to: of the lease, of the signature, of the certificate."""
    believed = trust()
    for at in range(len(SEALED)):
        for flip in (0x01, 0x80):
            changed = bytearray(SEALED)
            changed[at] ^= flip
            assert open_lease(bytes(changed), believed, at_ms=1) is None


@pytest.mark.parametrize(
    "data", [b"", SEALED[:-1], SEALED + b"\0", b"\xc1" * 200, encode(LEASE), encode([b"", bytes(64), b""])]
)
def test_other_lengths_and_junk_are_no_lease(data: bytes) -> None:
    """Truncated, lengthened and random bytes open to nothing, and raise nothing."""
    assert open_lease(data, trust(), at_ms=1) is None


def test_only_a_selector_of_this_deployment_leases() -> None:
    """Another operator's selector, another role, another deployment, an old certificate: none of them grants."""
    foreign = [
        role_key("selector", key=OperatorKey(bytes(32))),
        role_key("aggregator"),
        role_key("selector", deployment=bytes(16)),
        role_key("selector", until_ms=0),
    ]
    assert [open_lease(sign_lease(LEASE, key.signer), trust(), at_ms=1) for key in foreign] == [None] * 4
    # Certified here, and yet a lease of another place.
    other = msgspec.structs.replace(LEASE, deployment=bytes(16))
    assert open_lease(sign_lease(other, SIGNER), trust(), at_ms=1) is None


def test_a_signature_over_anything_else_is_no_lease() -> None:
    """What else a selector signs does not pass for a lease, and a reader without the key says why."""
    sealed = SIGNER.certify(encode([1, 2]))
    assert open_lease(sealed, trust(), at_ms=1) is None
    with pytest.raises(MalformedError):
        read_lease(sealed)


def test_a_lease_fits_into_an_update() -> None:
    """With names of the greatest length a lease is below the 1024 bytes that an update carries."""
    longest = lease("d" * 63, task="t" * 63, version=2**40, deadline_ms=2**45, deployment=DEPLOYMENT)
    sealed = sign_lease(longest, SIGNER)
    update = signed(update_submitted(sealed, body_ref()), "d" * 63)
    assert parse_update(update).submitted.sealed == sealed
