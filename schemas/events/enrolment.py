"""Enrol: who may take part under a policy of enrolled devices; topic `enrolments`, and the registrar's journal.

Devices ask in `enrolments`; the operator, or whom the operator has made an enroller, orders there. What the registrar
decides stands in `registry`: what was ordered in the words of the order, and each device with its subject.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from schemas.events.event import Event
from schemas.identifiers import Count, Deployment, DeviceId, DeviceKey, Population, Sha256, TimeMs

# A person or a machine, whatever key it has: a keyed pseudonym, by which privacy caps count (`schemas.identity`).
SubjectId = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{32}\Z")]
# What kind of device an enrolment is for; an operator's own word.
DeviceClass = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,30}\Z")]
TOKEN_BYTES_MAX = 1024
CERTIFICATE_BYTES_MAX = 1024
# fmt: off
EnrolmentRefusal = Literal[
    # other_device: the token names another one; other_subject: the key belongs to somebody else already
    "bad_token", "token_expired", "token_spent", "other_device", "other_subject", "other_class",
    "no_enrolment", "enrolment_over", "quota", "revoked", "forgotten", "not_enrolled", "certificate_expired",
]
# fmt: on
# replaced: the subject has another key since; forgotten: the whole subject, whose salt is gone.
RevocationReason = Literal["lost", "stolen", "left", "replaced", "forgotten"]


class EnrolmentOpened(Event):
    """Devices of a class may enrol in a population: up to `quota` subjects, with tokens, until `until_ms`.

    `number` grows with each opening of a class, so that a copy of an old order opens nothing.
    """

    deployment: Deployment
    population: Population
    device_class: DeviceClass
    number: Count
    quota: Count
    until_ms: TimeMs


class EnrolmentClosed(Event):
    """No new subjects in that class; those who are enrolled stay so, and renew."""

    deployment: Deployment
    population: Population
    device_class: DeviceClass
    number: Count


class DeviceEnrolled(Event):
    """The device is enrolled until `until_ms`, and counts as its subject.

    `token`: the digest of the token that is spent by it; None for a renewal. `replaces`: the subject's key before.
    """

    population: Population
    device_class: DeviceClass
    device: DeviceId
    public_key: DeviceKey
    subject: SubjectId
    token: Sha256 | None
    replaces: DeviceId | None
    until_ms: TimeMs


class DeviceRevoked(Event):
    """A device gets no lease any more, in no population; or without `device`, the whole subject in one population."""

    deployment: Deployment
    population: Population | None
    device: DeviceId | None
    subject: SubjectId | None
    reason: RevocationReason


class EnrolmentsDeclined(Event):
    """How many requests enrolled nobody, by reason; None: in populations without an enrolment. One a record."""

    # Names of populations are invented as easily as those of tasks.
    population: Population | None
    counts: dict[EnrolmentRefusal, Count]


class EnrolmentRequested(Event):
    """A device asks to be enrolled with a token, or without one to stay so; signed with its key.

    `successor` is a key that takes the place of this one; `proof` is what it signs (`schemas.identity.requests`).
    """

    population: Population
    device: DeviceId
    public_key: DeviceKey
    token: Annotated[bytes, msgspec.Meta(max_length=TOKEN_BYTES_MAX)] | None
    successor: DeviceKey | UnsetType = UNSET
    proof: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)] | UnsetType = UNSET


# --- answer: topic `answers`, for devices; not history --------------------------------------------------------------


class Enrolled(Event):
    """The device is enrolled; `certificate` says so to whom it shows it (`schemas.identity.certificates`)."""

    device: DeviceId
    # Of the whole record that is answered: a device takes no answer to what it has not asked.
    request_sha256: Sha256
    certificate: Annotated[bytes, msgspec.Meta(max_length=CERTIFICATE_BYTES_MAX)]


class EnrolmentRefused(Event):
    """The device is not enrolled, for this reason."""

    device: DeviceId
    request_sha256: Sha256
    population: Population
    # A plain string, so that an older device reads the reasons of a newer registrar.
    reason: str


EnrolmentOrder = EnrolmentOpened | EnrolmentClosed | DeviceRevoked
RegistryEvent = EnrolmentOpened | EnrolmentClosed | DeviceEnrolled | DeviceRevoked | EnrolmentsDeclined
