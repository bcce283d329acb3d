"""A device's certificate: the registrar says as whom a key counts, in which population, and until when.

A device shows it in each check-in, so that a selector need not know who is enrolled, only who is no longer. It is good
for 30 days, and renewed before; a role's certificate that ends earlier ends those that it has signed with it.
"""

from __future__ import annotations

import msgspec

from schemas.canonical import MalformedError, decode, encode
from schemas.certificates import Signer, Trust, parse_certified, read_certificate
from schemas.events.enrolment import DeviceClass, SubjectId
from schemas.identifiers import Deployment, DeviceKey, Population, TimeMs

REGISTRAR = "registrar"
CERTIFICATE_MS = 30 * 86_400_000
# With less than this left a device asks for the next one; with more it gets the same again.
RENEWABLE_MS = 20 * 86_400_000


class DeviceCertificate(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="DeviceCertificate/1"
):
    """A key counts as `subject`, a device of this class in this population, in check-ins up to `until_ms`."""

    deployment: Deployment
    population: Population
    device_class: DeviceClass
    subject: SubjectId
    public_key: DeviceKey
    until_ms: TimeMs


def sign_certificate(certificate: DeviceCertificate, signer: Signer) -> bytes:
    """The certificate as a device shows it; `signer` is the registrar's."""
    return signer.certify(encode(certificate))


def open_certificate(data: bytes, trust: Trust, *, at_ms: int) -> DeviceCertificate | None:
    """The certificate, or None where no registrar that the operator certified has signed it for this deployment.

    `at_ms` is when it was shown. Whether it has run out by then is for the reader to ask.
    """
    payload = trust.read(data, REGISTRAR, at_ms=at_ms)
    try:
        found = None if payload is None else decode(payload, DeviceCertificate)
    except MalformedError:
        return None
    return found if found is not None and trust.deployment in (None, found.deployment) else None


def read_device_certificate(data: bytes) -> DeviceCertificate:
    """What a certificate says, whoever signed it. Raises MalformedError."""
    return decode(parse_certified(data).payload, DeviceCertificate)


def find_end_ms(data: bytes) -> int:
    """Until when a certificate is believed: its own end, or that of the registrar's key. Raises MalformedError."""
    message = parse_certified(data)
    own = decode(message.payload, DeviceCertificate).until_ms
    return min(own, read_certificate(message.certificate).until_ms)
