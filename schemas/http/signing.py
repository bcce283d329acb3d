"""Requests signed by a device (RFC 9421, Ed25519): sign and verify, side by side.

What uploads say of themselves is signed: method, path, authority, the lease, and of digest, length, offset and
completeness those that the request has. Check-ins and updates are signed records already, whoever carries them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)

from schemas.canonical import MalformedError
from schemas.devices import ED25519
from schemas.http.device_protocol import (
    LEASE,
    REPR_DIGEST,
    UPLOAD_COMPLETE,
    UPLOAD_LENGTH,
    UPLOAD_OFFSET,
)

TAG, LABEL = "fedlog-device", "device"
# In every signature; the others where the request has them.
ALWAYS = ("@method", "@authority", "@path", LEASE.lower())
WHERE_SENT = tuple(name.lower() for name in (REPR_DIGEST, UPLOAD_LENGTH, UPLOAD_OFFSET, UPLOAD_COMPLETE))
NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class Proven:
    """A signature that holds: when its device says that it was made, in seconds, and what tells it from all others."""

    created_s: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Message:
    """A request, as the library looks at one. `headers` keep every line, in order."""

    method: str
    url: str
    headers: Any


class Headers(dict[str, str]):
    """Headers to be sent, which the signature is added to."""


class Lines:
    """Headers that were received: pairs in order, a name twice where it came twice."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)

    def items(self) -> list[tuple[str, str]]:
        """All lines."""
        return self._pairs


@dataclass(frozen=True, slots=True)
class _Keys(HTTPSignatureKeyResolver):
    """One key, whatever its id: the lease says whose a request is."""

    public: Ed25519PublicKey | None = None
    private: Ed25519PrivateKey | None = field(default=None, repr=False)

    def resolve_public_key(self, key_id: str) -> Any:
        """The key of the lease."""
        return self.public

    def resolve_private_key(self, key_id: str) -> Any:
        """The device's own."""
        return self.private


class _Verifier(HTTPMessageVerifier):
    """Takes any time: what is too old is for the caller to say, and to say by how much."""

    max_clock_skew = timedelta(days=36_500)


def sign_request(
    method: str, url: str, *, headers: Mapping[str, str], key: Ed25519PrivateKey, at_s: float
) -> dict[str, str]:
    """The headers with a signature of `key`, the device's, made at this time."""
    signed = Headers(headers)
    message = Message(method, url, signed)
    present = {name.lower() for name in headers}
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(private=key))
    signer.sign(
        message,
        key_id=LABEL,
        created=datetime.fromtimestamp(at_s, UTC),
        nonce=secrets.token_urlsafe(NONCE_BYTES),
        label=LABEL,
        tag=TAG,
        covered_component_ids=[*ALWAYS, *(name for name in WHERE_SENT if name in present)],
    )
    return dict(signed)


def verify_request(message: Message, public_key: bytes) -> Proven:
    """What the holder of `public_key`, a device's, has signed of a request. Raises MalformedError where that is not so.

    Nothing is said of when: whoever asks has a clock.
    """
    present = {name.lower() for name, _ in message.headers.items()}
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key.removeprefix(ED25519))
        verifier = _Verifier(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(public=key))
        # All that decides anything has to be covered, or somebody on the way could change it.
        required = [*ALWAYS, *(name for name in WHERE_SENT if name in present)]
        [found] = verifier.verify(message, max_age=None, expect_tag=TAG, require_components=required)
    except (InvalidSignature, ValueError) as error:
        raise MalformedError(f"the request's signature does not hold: {error}") from error
    created = found.parameters["created"]
    assert isinstance(created, int)
    if not found.nonce:
        raise MalformedError("the request's signature has no nonce")
    return Proven(created, found.nonce)
