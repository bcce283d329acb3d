"""What a device asks the registrar, signed with the key that was made on it and never leaves it.

The record is the same whatever carries it: a device appends it to `enrolments`, a gateway does so for one that speaks
HTTP, and the answer says of which record it is one (`request_sha256`).
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import UNSET

from schemas.canonical import encode
from schemas.devices import is_signed_by_device, name_device, tag_public_key
from schemas.events import EnrolmentRequested
from schemas.identifiers import Population
from schemas.signing import Signed


def ask_to_enrol(population: Population, key: Ed25519PrivateKey, *, token: bytes | None) -> EnrolmentRequested:
    """The request of the device that holds this key; without a token to stay what it is."""
    public_key = tag_public_key(key)
    return EnrolmentRequested(population=population, device=name_device(public_key), public_key=public_key, token=token)


def ask_to_succeed(
    population: Population, key: Ed25519PrivateKey, *, successor: Ed25519PrivateKey, deployment: bytes
) -> EnrolmentRequested:
    """The request that another key of the same subject takes the place of this one."""
    public_key = tag_public_key(key)
    device = name_device(public_key)
    return EnrolmentRequested(
        population=population,
        device=device,
        public_key=public_key,
        token=None,
        successor=tag_public_key(successor),
        proof=successor.sign(_name_succession(deployment, device)),
    )


def sign_request(request: EnrolmentRequested, key: Ed25519PrivateKey, *, deployment: bytes) -> bytes:
    """The record's value, good in one deployment alone."""
    payload = encode(request)
    return encode(Signed(payload, key.sign(_name_request(deployment) + payload)))


def is_request_proven(message: Signed, request: EnrolmentRequested, *, deployment: bytes) -> bool:
    """Whether who asks holds the key that it names, and that of its successor."""
    named = Signed(_name_request(deployment) + message.payload, message.signature)
    if request.device != name_device(request.public_key) or not is_signed_by_device(named, request.public_key):
        return False
    if request.successor is UNSET or request.proof is UNSET:
        return request.successor is request.proof
    proof = Signed(_name_succession(deployment, request.device), request.proof)
    return is_signed_by_device(proof, request.successor)


def _name_request(deployment: bytes) -> bytes:
    # Other words than before a check-in: what was signed for one purpose is nothing for another.
    return b"fedlog/enrol/1" + deployment


def _name_succession(deployment: bytes, device: str) -> bytes:
    return b"fedlog/succeed/1" + deployment + device.encode()
