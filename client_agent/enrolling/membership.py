"""A device's certificate: kept in its folder, shown in check-ins, renewed while it is still good.

One file a population: a device may take part in several, and is another subject in each.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from client_agent.files import write_durably
from client_agent.identity import Identity
from client_agent.link import Link
from schemas.canonical import MalformedError
from schemas.events import Enrolled, EnrolmentRefused
from schemas.identifiers import Population
from schemas.identity.certificates import RENEWABLE_MS, DeviceCertificate, find_end_ms, read_device_certificate
from schemas.identity.requests import ask_to_enrol, sign_request

# A renewal that got no answer, or a no, is asked for again after so long; there are days until it matters.
ASK_AGAIN_MS = 3_600_000


class Membership:
    """The membership of one device in one population; empty before it has enrolled."""

    def __init__(self, folder: Path, population: Population, identity: Identity) -> None:
        self.population, self.identity = population, identity
        self._path = folder / f"{population}.certificate"
        self._data = self._path.read_bytes() if self._path.exists() else b""
        self._asked: list[bytes] = []
        self._ask_ms = 0

    @property
    def certificate(self) -> bytes | None:
        """What a check-in shows; None without one of this key."""
        return self._data if self._read(self._data) is not None else None

    def make_request(self, token: bytes | None, *, deployment: bytes) -> bytes:
        """The record that asks for a certificate; its answer will be taken."""
        request = ask_to_enrol(self.population, self.identity.key, token=token)
        message = sign_request(request, self.identity.key, deployment=deployment)
        # The last few are enough: a device repeats a request as it stands.
        self._asked = [*self._asked, hashlib.sha256(message).digest()][-4:]
        return message

    def renew(self, link: Link, now_ms: int) -> None:
        """Ask for the next certificate, once this one is in its last days, by the device's clock."""
        held = self._read(self._data)
        if held is None or now_ms < self._ask_ms or find_end_ms(self._data) - now_ms > RENEWABLE_MS:
            return
        self._ask_ms = now_ms + ASK_AGAIN_MS
        link.enrol(self.population, self.make_request(None, deployment=held.deployment))

    def take(self, answer: Enrolled | EnrolmentRefused) -> bool:
        """Keep the certificate in an answer to this device's own request; whether it was one."""
        if answer.device != self.identity.device or answer.request_sha256 not in self._asked:
            return False
        # The link has checked who signed it; for whom it is the device knows itself.
        if isinstance(answer, Enrolled) and self._read(answer.certificate) is not None:
            write_durably(self._path, answer.certificate, mode=0o600)
            self._data = answer.certificate
        return True

    def _read(self, data: bytes) -> DeviceCertificate | None:
        try:
            found = read_device_certificate(data)
        except MalformedError:
            return None
        is_own = found.public_key == self.identity.public_key and found.population == self.population
        return found if is_own else None
