"""Signed requests: the vector of RFC 9421 for Ed25519, in both directions, and what our own signatures cover."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key
from http_message_signatures import HTTPMessageSigner, algorithms

from schemas.canonical import MalformedError
from schemas.http.signing import Headers, Lines, Message, _Keys, _Verifier, sign_request, verify_request

# RFC 9421, B.1.4 and B.2.6.
RFC_KEY = base64.b64decode("MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF")
RFC_HEADERS = {
    "Host": "example.com",
    "Date": "Tue, 20 Apr 2021 02:07:55 GMT",
    "Content-Type": "application/json",
    "Content-Length": "18",
}
RFC_COVERED = ("date", "@method", "@path", "@authority", "content-type", "content-length")
RFC_SIGNATURE = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
URL = "https://example.com/foo?param=Value&Pet=dog"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
HEADERS = {"Fedlog-Lease": ":aGVsbG8=:", "Upload-Offset": "7", "Upload-Complete": "?0"}


def test_the_vector_of_the_rfc() -> None:
    """Guarantee: what we sign with and verify by gives the very bytes of RFC 9421, B.2.6."""
    key = load_der_private_key(RFC_KEY, None)
    assert isinstance(key, Ed25519PrivateKey)
    message = Message("POST", URL, Headers(RFC_HEADERS))
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(private=key))
    signer.sign(
        message,
        key_id="test-key-ed25519",
        created=datetime.fromtimestamp(1_618_884_473, UTC),
        label="sig-b26",
        include_alg=False,
        covered_component_ids=RFC_COVERED,
    )
    assert message.headers["Signature"] == f"sig-b26=:{RFC_SIGNATURE}:"
    verifier = _Verifier(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(public=key.public_key()))
    [found] = verifier.verify(message, max_age=None, require_components=RFC_COVERED)
    assert found.parameters["keyid"] == "test-key-ed25519"


def received(headers: dict[str, str], *, method: str = "PATCH", url: str = URL) -> Message:
    """A request as a server has it."""
    return Message(method, url, Lines(headers.items()))


def test_a_signature_says_when_and_is_never_the_same() -> None:
    """Guarantee: the holder of the key made it, at the time that it names, and two of one moment differ."""
    first, second = (sign_request("PATCH", URL, headers=HEADERS, key=KEY, at_s=1_700_000_000) for _ in range(2))
    proven = verify_request(received(first), PUBLIC)
    assert proven.created_s == 1_700_000_000
    assert verify_request(received(second), PUBLIC).nonce != proven.nonce


@pytest.mark.parametrize("name", [*HEADERS, "Upload-Length"])
def test_what_is_changed_or_added_on_the_way_shows(name: str) -> None:
    """Guarantee: no header that decides anything is taken where it is not signed."""
    signed = sign_request("PATCH", URL, headers=HEADERS, key=KEY, at_s=1_700_000_000)
    with pytest.raises(MalformedError):
        verify_request(received(signed | {name: "?1"}), PUBLIC)


def test_path_method_and_authority_are_signed() -> None:
    """Guarantee: a request to one place is none to another."""
    signed = sign_request("PATCH", URL, headers=HEADERS, key=KEY, at_s=1_700_000_000)
    for changed in (received(signed, method="POST"), received(signed, url="https://example.com/bar")):
        with pytest.raises(MalformedError):
            verify_request(changed, PUBLIC)
    with pytest.raises(MalformedError):
        verify_request(received(signed, url="https://example.org/foo"), PUBLIC)


def test_a_header_that_comes_twice_is_signed_twice() -> None:
    """Guarantee: a second line of a signed header, put in on the way, spoils the signature."""
    signed = sign_request("PATCH", URL, headers=HEADERS, key=KEY, at_s=1_700_000_000)
    twice = Message("PATCH", URL, Lines([*signed.items(), ("Upload-Offset", "0")]))
    with pytest.raises(MalformedError):
        verify_request(twice, PUBLIC)
