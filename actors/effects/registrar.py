"""Effects of the registrar: orders and requests with valid signatures come in, certificates and refusals go out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from actors.deciders.registrar import RegistrarInput, Registry, RequestChecked
from actors.keys import RoleKey
from actors.runtime.effects import NOTHING, Arrival, Effects, FollowUp
from actors.runtime.meter import Instruments, Meter
from schemas.canonical import MalformedError, decode
from schemas.certificates import Signer
from schemas.events import (
    Answer,
    DeviceEnrolled,
    DeviceRevoked,
    Enrolled,
    EnrolmentRefused,
    EnrolmentRequested,
    EnrolmentsDeclined,
    JournalEvent,
)
from schemas.identity.certificates import DeviceCertificate, sign_certificate
from schemas.identity.orders import hear_order
from schemas.identity.requests import is_request_proven
from schemas.identity.tokens import name_token, open_token
from schemas.signing import parse_signed
from schemas.topics import partition_of
from streams.log import EventLog, Record


class RegistrarEffects(Effects[Registry, RegistrarInput]):
    """Checks signatures before a decision, signs the certificate after it."""

    def __init__(self, key: RoleKey, partition: int, *, partitions: int) -> None:
        self._signer: Signer = key.signer
        self._trust, self._deployment = key.trust(), key.deployment
        self._partition, self._partitions = partition, partitions

    def read(self, state: Registry, record: Record) -> Arrival | None:
        """A request whose device holds its key, or an order of who may give one."""
        value = record.value or b""
        if (order := hear_order(value, trust=self._trust, at_ms=record.time_ms)) is not None:
            return Arrival(order) if self._is_home(order.population) else None
        try:
            message = parse_signed(value)
            request = decode(message.payload, EnrolmentRequested)
        except MalformedError:
            return None
        if not self._is_home(request.population) or not is_request_proven(
            message, request, deployment=self._deployment
        ):
            return None
        token = request.token and open_token(request.token, trust=self._trust, at_ms=record.time_ms)
        checked = RequestChecked(request, token or None, name_token(request.token or b""))
        return Arrival(checked, hashlib.sha256(value).digest())

    def follow_up(self, state: Registry, arrival: Arrival, *, events: Sequence[JournalEvent], time_ms: int) -> FollowUp:
        """The answer to a request; what it says follows from the state alone."""
        checked, digest = arrival
        if not isinstance(checked, RequestChecked):
            return NOTHING
        assert isinstance(digest, bytes)
        return FollowUp(answers=[self._answer(state, checked.request, digest=digest, events=events)])

    def _answer(
        self, state: Registry, request: EnrolmentRequested, *, digest: bytes, events: Sequence[JournalEvent]
    ) -> Answer:
        match events:
            case [EnrolmentsDeclined(counts=counts)]:
                # One request gives one reason; counts are added up only later, on their way into the journal.
                [reason] = counts
                return EnrolmentRefused(
                    device=request.device, request_sha256=digest, population=request.population, reason=reason
                )
            case [DeviceEnrolled() as enrolled, *_]:
                device, public_key = enrolled.device, enrolled.public_key
            case _:
                device, public_key = request.device, request.public_key
        member = state.populations[request.population].members[device]
        certificate = DeviceCertificate(
            deployment=self._deployment,
            population=request.population,
            device_class=member.device_class,
            subject=member.subject,
            public_key=public_key,
            until_ms=member.until_ms,
        )
        # Signed anew for each answer: the same membership gives the same bytes, so that none has to be kept.
        signed = sign_certificate(certificate, self._signer)
        return Enrolled(device=request.device, request_sha256=digest, certificate=signed)

    def _is_home(self, population: str | None) -> bool:
        """Whether this partition decides on a population: another would count its quota a second time."""
        return population is None or partition_of(population, self._partitions) == self._partition


class RegistrarMeter(Meter):
    """Counts enrolments, revocations and refusals."""

    def __init__(self, instruments: Instruments) -> None:
        self._enrolled = instruments.counter("devices_enrolled", "Enrolments and renewals", "population", "kind")
        self._revoked = instruments.counter("devices_revoked", "Revocations", "reason")
        self._declined = instruments.counter("enrolments_declined", "Requests refused", "population", "reason")

    def count(self, event: JournalEvent, time_ms: int) -> None:
        """Enrolments by what they rest on, revocations and refusals by reason."""
        match event:
            case DeviceEnrolled():
                self._enrolled.labels(event.population, "renewal" if event.token is None else "token").inc()
            case DeviceRevoked():
                self._revoked.labels(event.reason).inc()
            case EnrolmentsDeclined():
                for reason, count in event.counts.items():
                    # Only populations that exist have a name here: each label costs memory until the process ends.
                    self._declined.labels(event.population or "", reason).inc(count)


def make_effects(log: EventLog, partition: int, *, key: RoleKey) -> RegistrarEffects:
    """The effects of the role."""
    return RegistrarEffects(key, partition, partitions=log.partitions)


def make_meter(instruments: Instruments) -> RegistrarMeter:
    """The meter of the role."""
    return RegistrarMeter(instruments)
