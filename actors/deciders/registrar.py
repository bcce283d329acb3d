"""The registrar: who is enrolled, as which subject, and until when. One token enrols one device, once.

What its requests cost the journal is bounded by what the operator hands out: a token is spent once, a device renews
once in ten days at most, and everything else is counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from msgspec import UNSET

from actors.deciders.decider import Decider
from schemas.devices import name_device
from schemas.events import (
    DeviceEnrolled,
    DeviceRevoked,
    EnrolmentClosed,
    EnrolmentOpened,
    EnrolmentRefusal,
    EnrolmentRequested,
    EnrolmentsDeclined,
    JournalEvent,
)
from schemas.identity.certificates import CERTIFICATE_MS, RENEWABLE_MS
from schemas.identity.tokens import SKEW_MS, TOKEN_MS, EnrolmentToken


@dataclass(slots=True)
class Enrolment:
    """One class of one population: how many subjects may enrol until when, and how many have."""

    number: int
    quota: int
    until_ms: int
    is_open: bool = True
    enrolled: int = 0


@dataclass(slots=True)
class Member:
    """An enrolled device; `token` is the digest of the token that it came with."""

    device_class: str
    subject: str
    token: bytes
    until_ms: int


@dataclass(slots=True)
class Population:
    """Who is enrolled in one population. `subjects` has the class of each, `barred` why one may not come again."""

    deployment: bytes = b""
    enrolments: dict[str, Enrolment] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    barred: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Registry:
    """All populations of one partition. `spent` has until when a used token could be shown again, oldest use first."""

    populations: dict[str, Population] = field(default_factory=dict)
    revoked: dict[str, str] = field(default_factory=dict)
    spent: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RequestChecked:
    """A request whose signatures were checked outside.

    `token` is what an operator or enroller has signed, None where there is none, and `token_sha256` its digest.
    """

    request: EnrolmentRequested
    token: EnrolmentToken | None
    token_sha256: bytes


RegistrarInput = RequestChecked | EnrolmentOpened | EnrolmentClosed | DeviceRevoked


def decide(state: Registry, fact: RegistrarInput, time_ms: int) -> list[JournalEvent]:
    """The events that this input causes."""
    match fact:
        case RequestChecked():
            return _decide_request(state, fact, time_ms=time_ms)
        case EnrolmentOpened():
            known = _find_enrolment(state, fact)
            # A number that is not new is a copy of what was ordered once.
            return [fact] if known is None or fact.number > known.number else []
        case EnrolmentClosed():
            known = _find_enrolment(state, fact)
            return [fact] if known is not None and known.is_open and fact.number == known.number else []
        case DeviceRevoked():
            return [] if _is_revoked_already(state, fact) else [fact]
    return []


def _find_enrolment(state: Registry, order: EnrolmentOpened | EnrolmentClosed) -> Enrolment | None:
    found = state.populations.get(order.population)
    return found.enrolments.get(order.device_class) if found is not None else None


def _is_revoked_already(state: Registry, order: DeviceRevoked) -> bool:
    if order.device is not None:
        return order.device in state.revoked
    population = state.populations.get(order.population or "")
    # Of a population that nobody has opened there is no subject, and nothing is kept for it.
    if population is None or order.subject is None:
        return True
    return population.barred.get(order.subject) in (order.reason, "forgotten")


def _decide_request(state: Registry, fact: RequestChecked, *, time_ms: int) -> list[JournalEvent]:
    request, population = fact.request, state.populations.get(fact.request.population)
    if population is None:
        return [EnrolmentsDeclined(population=None, counts={"no_enrolment": 1})]
    member = population.members.get(request.device)
    # It lost its answer, or asks too early: the answer repeats its certificate.
    if member is not None and _is_settled(member, fact, time_ms=time_ms) and request.device not in state.revoked:
        return []
    why = why_not_renewed(state, fact, population=population, time_ms=time_ms)
    if request.token is not None:
        why = why_not_enrolled(state, fact, population=population, time_ms=time_ms)
    if why is not None:
        return [EnrolmentsDeclined(population=request.population, counts={why: 1})]
    return _enrol(population, fact, time_ms=time_ms)


def _is_settled(member: Member, fact: RequestChecked, *, time_ms: int) -> bool:
    """Whether the device has what it asks for already."""
    if fact.request.token is not None:
        return member.token == fact.token_sha256 and time_ms <= member.until_ms
    return member.until_ms - time_ms > RENEWABLE_MS


def why_not_renewed(
    state: Registry, fact: RequestChecked, *, population: Population, time_ms: int
) -> EnrolmentRefusal | None:
    """Why a device that shows no token does not stay enrolled."""
    request = fact.request
    member = population.members.get(request.device)
    if (gone := _why_gone(state, request.device, population=population, member=member)) is not None:
        return gone
    if member is None:
        return "not_enrolled"
    if time_ms > member.until_ms:
        return "certificate_expired"
    if request.successor is UNSET:
        return None
    successor = name_device(request.successor)
    is_taken = successor in population.members or successor in state.revoked
    return "other_subject" if is_taken else None


def _why_gone(
    state: Registry, device: str, *, population: Population, member: Member | None
) -> EnrolmentRefusal | None:
    if device in state.revoked:
        return "forgotten" if state.revoked[device] == "forgotten" else "revoked"
    barred = population.barred.get(member.subject) if member is not None else None
    return None if barred is None else "revoked"


def why_not_enrolled(
    state: Registry, fact: RequestChecked, *, population: Population, time_ms: int
) -> EnrolmentRefusal | None:
    """Why a device that shows a token is not enrolled with it."""
    request, token = fact.request, fact.token
    if token is None or token.population != request.population:
        return "bad_token"
    if token.device not in (None, request.device):
        return "other_device"
    if (gone := _why_gone(state, request.device, population=population, member=None)) is not None:
        return gone
    if token.subject in population.barred:
        return "forgotten" if population.barred[token.subject] == "forgotten" else "revoked"
    if fact.token_sha256 in state.spent:
        return "token_spent"
    if time_ms > token.until_ms:
        return "token_expired"
    # Nobody makes such a one: it would have to be remembered as spent for as long.
    if token.until_ms > time_ms + TOKEN_MS + SKEW_MS:
        return "bad_token"
    return _why_no_place(population, request.device, token=token, time_ms=time_ms)


def _why_no_place(
    population: Population, device: str, *, token: EnrolmentToken, time_ms: int
) -> EnrolmentRefusal | None:
    member = population.members.get(device)
    # One key is one subject for ever, or caps could be passed by changing names.
    if member is not None and member.subject != token.subject:
        return "other_subject"
    if population.subjects.get(token.subject, token.device_class) != token.device_class:
        return "other_class"
    enrolment = population.enrolments.get(token.device_class)
    if enrolment is None or not enrolment.is_open:
        return "no_enrolment"
    if time_ms > enrolment.until_ms:
        return "enrolment_over"
    is_new = token.subject not in population.subjects
    return "quota" if is_new and enrolment.enrolled >= enrolment.quota else None


def _enrol(population: Population, fact: RequestChecked, *, time_ms: int) -> list[JournalEvent]:
    request, token = fact.request, fact.token
    until_ms = time_ms + CERTIFICATE_MS
    if request.token is not None and token is not None:
        return [
            DeviceEnrolled(
                population=request.population,
                device_class=token.device_class,
                device=request.device,
                public_key=request.public_key,
                subject=token.subject,
                token=fact.token_sha256,
                replaces=None,
                until_ms=until_ms,
            )
        ]
    return [*_renew(population, request, until_ms=until_ms)]


def _renew(population: Population, request: EnrolmentRequested, *, until_ms: int) -> Iterator[JournalEvent]:
    member = population.members[request.device]
    public_key = request.public_key if request.successor is UNSET else request.successor
    is_replaced = request.successor is not UNSET
    yield DeviceEnrolled(
        population=request.population,
        device_class=member.device_class,
        device=name_device(public_key),
        public_key=public_key,
        subject=member.subject,
        token=None,
        replaces=request.device if is_replaced else None,
        until_ms=until_ms,
    )
    # Its certificate may be good for weeks, and one key of the two is enough.
    if is_replaced:
        yield DeviceRevoked(
            deployment=population.deployment,
            population=None,
            device=request.device,
            subject=member.subject,
            reason="replaced",
        )


def evolve(state: Registry, event: JournalEvent, time_ms: int) -> None:
    """Fold one event into the state."""
    match event:
        case EnrolmentOpened():
            population = state.populations.setdefault(event.population, Population(event.deployment))
            population.enrolments[event.device_class] = Enrolment(event.number, event.quota, event.until_ms)
        case EnrolmentClosed():
            state.populations[event.population].enrolments[event.device_class].is_open = False
        case DeviceEnrolled():
            _settle(state, event, time_ms=time_ms)
        case DeviceRevoked(device=None):
            _bar(state, event)
        case DeviceRevoked(device=str(device)):
            state.revoked[device] = event.reason
            for population in state.populations.values():
                population.members.pop(device, None)


def _settle(state: Registry, enrolled: DeviceEnrolled, *, time_ms: int) -> None:
    population = state.populations[enrolled.population]
    before = population.members.get(enrolled.device)
    token = enrolled.token or (before.token if before is not None else b"")
    population.members[enrolled.device] = Member(
        enrolled.device_class, enrolled.subject, token=token, until_ms=enrolled.until_ms
    )
    if enrolled.subject not in population.subjects:
        population.subjects[enrolled.subject] = enrolled.device_class
        population.enrolments[enrolled.device_class].enrolled += 1
    if enrolled.token is not None:
        _spend(state, enrolled.token, time_ms=time_ms)


def _spend(state: Registry, token: bytes, *, time_ms: int) -> None:
    # One that is long over is refused for that, so that it need not be remembered.
    while state.spent and next(iter(state.spent.values())) < time_ms:
        del state.spent[next(iter(state.spent))]
    state.spent[token] = time_ms + TOKEN_MS + SKEW_MS


def _bar(state: Registry, revoked: DeviceRevoked) -> None:
    """The subject is gone, with each of its keys, which would lead to it under another name."""
    population = state.populations[revoked.population or ""]
    assert revoked.subject is not None
    population.barred[revoked.subject] = revoked.reason
    population.subjects.pop(revoked.subject, None)
    for device in [device for device, one in population.members.items() if one.subject == revoked.subject]:
        state.revoked[device] = revoked.reason
        del population.members[device]


def entries(state: Registry) -> int:
    """Devices known, over all populations."""
    return len(state.revoked) + sum(len(population.members) for population in state.populations.values())


REGISTRAR: Decider[Registry] = Decider(initial=Registry, decide=decide, evolve=evolve, entries=entries)


def make_decider(key_id: bytes) -> Decider[Registry]:
    """The registrar as a decider; it asks for no noise, so that `key_id` plays no part."""
    return REGISTRAR
