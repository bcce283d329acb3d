"""The signed lease: checked by anybody who knows the operator's public key, changed by nobody."""

from __future__ import annotations

import dataclasses
import hmac

import msgspec
import pytest

from actors.keys import OperatorKey
from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Trust, parse_certified
from schemas.leases import Marked, open_lease, read_lease, sign_lease
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
    marked = decode(SEALED, Marked)
    for believed in (trust(), trust("shard")):
        for at in range(len(marked.signed)):
            for flip in (0x01, 0x80):
                changed = bytearray(marked.signed)
                changed[at] ^= flip
                assert open_lease(encode(Marked(bytes(changed), marked.mark)), believed, at_ms=1) is None


def test_a_mark_saves_the_aggregator_a_signature() -> None:
    """Who shares the selector's secret believes its mark alone; a mark by another secret opens nothing."""
    message = parse_certified(decode(SEALED, Marked).signed)
    unsigned = encode(msgspec.structs.replace(message, signature=bytes(64)))
    marked, elsewhere, bare = (
        encode(Marked(unsigned, hmac.digest(secret, unsigned, "sha256") if secret else b""))
        for secret in (role_key("aggregator").shared["marks"], bytes(32), b"")
    )
    assert open_lease(marked, trust(), at_ms=1) == LEASE
    assert [open_lease(each, trust(), at_ms=1) for each in (elsewhere, bare)] == [None, None]
    # Nobody else believes a mark: not a shard worker, not a device.
    for believed in (trust("shard"), Trust(KEY.public_key)):
        assert [open_lease(each, believed, at_ms=1) for each in (marked, bare)] == [None, None]


def test_without_a_mark_the_signature_counts() -> None:
    """Keys of another serial, and a selector's file from before there were marks, cost time and no lease."""
    signed = decode(SEALED, Marked).signed
    for mark in (b"", bytes(32)):
        assert open_lease(encode(Marked(signed, mark)), trust(), at_ms=1) == LEASE
    unmarked = msgspec.structs.replace(role_key("selector"), shared={})
    assert open_lease(sign_lease(LEASE, unmarked.signer), trust(), at_ms=1) == LEASE


def test_a_mark_does_not_replace_a_certificate() -> None:
    """One that is marked and not a selector's, or whose certificate has run out, is no lease."""
    secret = role_key("selector").shared["marks"]
    for key in (role_key("evaluator"), role_key("selector", until_ms=0)):
        signer = dataclasses.replace(key.signer, marks=secret)
        assert open_lease(sign_lease(LEASE, signer), trust(), at_ms=1) is None


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
