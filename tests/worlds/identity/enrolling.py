"""Enrolments for tests: what operators order, tokens, and devices that enrol and check in with their certificate."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import msgspec
from msgspec import UNSET

from schemas.certificates import parse_certified
from schemas.events import DeviceRevoked, Enrolled, EnrolmentClosed, EnrolmentOpened, EnrolmentRefused
from schemas.identifiers import SALT_BYTES
from schemas.identity.certificates import DeviceCertificate
from schemas.identity.orders import ENROLLER, say_in_name
from schemas.identity.requests import ask_to_enrol, ask_to_succeed, sign_request
from schemas.identity.tokens import TOKEN_MS, EnrolmentToken, sign_token
from schemas.topics import ENROLMENTS
from tests.worlds.builders import DEPLOYMENT, FOR_EVER_MS, KEY, TASK, device_key, public_key, role_key
from tests.worlds.federation import Federation, ScriptedDevice

PHONES = "phones"
_numbers = itertools.count(1)


def subject_id(name: str) -> str:
    """The pseudonym that a subject of this name has in every test."""
    return hashlib.sha256(f"subject {name}".encode()).hexdigest()[:32]


def enrolment_opened(number: int = 1, **changes: Any) -> EnrolmentOpened:
    """Ten phones may enrol in the population of `digits`, for ever."""
    plain = EnrolmentOpened(
        deployment=DEPLOYMENT,
        population=TASK,
        device_class=PHONES,
        number=number,
        quota=10,
        until_ms=FOR_EVER_MS,
    )
    return msgspec.structs.replace(plain, **changes)


def enrolment_closed(number: int = 1, **changes: Any) -> EnrolmentClosed:
    """No more of them."""
    plain = EnrolmentClosed(deployment=DEPLOYMENT, population=TASK, device_class=PHONES, number=number)
    return msgspec.structs.replace(plain, **changes)


def device_revoked(device: str | None = None, **changes: Any) -> DeviceRevoked:
    """An order to revoke a device."""
    plain = DeviceRevoked(deployment=DEPLOYMENT, population=None, device=device, subject=None, reason="lost")
    return msgspec.structs.replace(plain, **changes)


def device_certificate(device: str = "a", subject: str = "ada", **changes: Any) -> DeviceCertificate:
    """What a registrar has certified of a device, for ever."""
    plain = DeviceCertificate(
        deployment=DEPLOYMENT,
        population=TASK,
        device_class=PHONES,
        subject=subject_id(subject),
        public_key=public_key(device),
        until_ms=FOR_EVER_MS,
    )
    return msgspec.structs.replace(plain, **changes)


def enrolment_token(subject: str = "ada", *, at_ms: int, **changes: Any) -> EnrolmentToken:
    """A token of the subject with this name, made at a time; each is another one."""
    plain = EnrolmentToken(
        deployment=DEPLOYMENT,
        population=TASK,
        device_class=PHONES,
        subject=subject_id(subject),
        device=None,
        until_ms=at_ms + TOKEN_MS,
        nonce=next(_numbers).to_bytes(SALT_BYTES),
    )
    return msgspec.structs.replace(plain, **changes)


def signed_token(subject: str = "ada", *, at_ms: int, by: Any = None, **changes: Any) -> bytes:
    """The same as the operator signs it, or another author."""
    return sign_token(enrolment_token(subject, at_ms=at_ms, **changes), by or KEY.signing)


def ordered(order: msgspec.Struct, *, by: Any = None) -> bytes:
    """The record of an order, by the operator or another author."""
    return say_in_name(order, by or KEY.signing)


def enroller_signer(**changes: Any) -> Any:
    """Who signs for an enroller."""
    return role_key(ENROLLER, **changes).signer


class EnrolledDevice(ScriptedDevice):
    """A scripted device with a certificate, as soon as it has one."""

    certificate: bytes | None = None

    def ask(self, token: bytes | None, *, population: str = TASK, deployment: bytes = DEPLOYMENT) -> bytes:
        """Append a request to be enrolled; the record."""
        request = ask_to_enrol(population, self.key, token=token)
        return self._append_request(sign_request(request, self.key, deployment=deployment))

    def ask_for(self, successor: str, *, population: str = TASK) -> bytes:
        """Append a request that the key of another name takes the place of this one."""
        request = ask_to_succeed(population, self.key, successor=device_key(successor), deployment=DEPLOYMENT)
        return self._append_request(sign_request(request, self.key, deployment=DEPLOYMENT))

    def _append_request(self, record: bytes) -> bytes:
        self.append(ENROLMENTS.name, record)
        return record

    def check_in(self, **changes: Any) -> None:
        """Check in with the certificate."""
        super().check_in(**{"certificate": self.certificate or UNSET, **changes})

    def told(self) -> str:
        """What the registrar answered last: `enrolled`, or why not. A certificate is kept."""
        answers = [answer for answer in self.answers() if isinstance(answer, Enrolled | EnrolmentRefused)]
        if isinstance(answers[-1], EnrolmentRefused):
            return answers[-1].reason
        self.certificate = answers[-1].certificate
        assert parse_certified(self.certificate)
        return "enrolled"


class EnrolledFederation(Federation):
    """A federation whose policy asks for enrolled devices; ten phones may enrol."""

    def create(self, model: Any) -> None:
        super().create(model)
        self.append(ENROLMENTS.name, ordered(enrolment_opened()))

    def device(self, name: str) -> EnrolledDevice:
        """A device of this task, with a key and nothing else yet."""
        return EnrolledDevice(name, self.log, task=self.task, shards=self.rules.shard_count, sent_ms=self.sent_ms)

    def token(self, subject: str = "ada", **changes: Any) -> bytes:
        """A token of a subject, made now."""
        return signed_token(subject, at_ms=self.now_ms, **changes)

    def enrolled(self, name: str, subject: str | None = None) -> EnrolledDevice:
        """A device that has enrolled."""
        device = self.device(name)
        device.ask(self.token(subject or name))
        self.settle()
        assert device.told() == "enrolled"
        return device

    def order(self, order: msgspec.Struct, *, by: Any = None) -> None:
        """Append an order, and see what becomes of it."""
        self.append(ENROLMENTS.name, ordered(order, by=by))
        self.settle()
