"""Who takes part, told from the journals alone: one token one device, one key one subject, and nobody who is gone.

It knows the vocabulary and no registrar: what is forbidden is written down here a second time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas.events import (
    DeviceEnrolled,
    DeviceRevoked,
    EnrolmentClosed,
    EnrolmentOpened,
    LeaseGranted,
    Noticed,
    TaskCreated,
    UpdateAdmitted,
)
from tests.judges.logbook import Logbook


def member_faults(book: Logbook) -> Iterator[str]:
    """Every enrolment that the journal before it forbids, and every lease that no enrolment stands behind."""
    members = _Members()
    for event in book.registry.events(EnrolmentOpened, EnrolmentClosed, DeviceEnrolled, DeviceRevoked):
        yield from members.take(event)
    yield from _lease_faults(book, members)


class _Members:
    """What the registrar's journal has said so far."""

    def __init__(self) -> None:
        self.subjects: dict[tuple[str, str], str] = {}
        self._left: dict[tuple[str, str], int] = {}
        self._tokens: set[bytes] = set()
        self._gone: set[str] = set()
        self._barred: set[tuple[str | None, str | None]] = set()

    def take(self, event: Any) -> Iterator[str]:
        """The faults of one event more."""
        match event:
            case EnrolmentOpened():
                self._left[event.population, event.device_class] = event.quota
            case EnrolmentClosed():
                self._left[event.population, event.device_class] = 0
            case DeviceRevoked(device=None):
                self._barred.add((event.population, event.subject))
            case DeviceRevoked():
                self._gone.add(str(event.device))
            case DeviceEnrolled():
                yield from self._enrol(event)

    def _enrol(self, event: DeviceEnrolled) -> Iterator[str]:
        where = f"registry: {event.device} of {event.population}"
        place = (event.population, event.device)
        if event.token is not None and event.token in self._tokens:
            yield f"{where}: enrolled with a token that is spent"
        if event.token is not None:
            self._tokens.add(event.token)
        if self.subjects.get(place, event.subject) != event.subject:
            yield f"{where}: enrolled as {event.subject}, and was {self.subjects[place]}"
        if event.device in self._gone or (event.population, event.subject) in self._barred:
            yield f"{where}: enrolled after it was revoked"
        is_new = event.subject not in {s for (population, _), s in self.subjects.items() if population == place[0]}
        if event.token is None and (is_new or (event.replaces is None and place not in self.subjects)):
            yield f"{where}: renewed, and was not enrolled"
        if is_new:
            self._left[event.population, event.device_class] = self._left.get((place[0], event.device_class), 0) - 1
            if self._left[event.population, event.device_class] < 0:
                yield f"{where}: enrolled beyond the quota, or where nobody enrols"
        self.subjects[place] = event.subject


def _lease_faults(book: Logbook, members: _Members) -> Iterator[str]:
    enrolled: dict[str, bool] = {}
    gone: set[str | None] = set()
    for event in book.selections.events(Noticed, LeaseGranted):
        match event:
            case Noticed(fact=TaskCreated() as created):
                enrolled[created.task] = created.policy.is_enrolled
            case Noticed(fact=DeviceRevoked() as revoked):
                gone.add(revoked.device or revoked.subject)
            case LeaseGranted() if not enrolled.get(event.task):
                if event.subject:
                    yield f"lease {event.lease}: of a subject, in a task that enrols nobody"
            case LeaseGranted():
                yield from _grant_faults(event, members, gone=gone)
    subjects = {event.lease: event.subject for event in book.selections.events(LeaseGranted)}
    for admitted in book.rounds.events(UpdateAdmitted):
        if subjects.get(admitted.update, admitted.subject) != admitted.subject:
            yield f"update {admitted.update}: counts as {admitted.subject}, and its lease is of another"


def _grant_faults(event: LeaseGranted, members: _Members, *, gone: set[str | None]) -> Iterator[str]:
    if members.subjects.get((event.task.partition(".")[0], event.device)) != event.subject:
        yield f"lease {event.lease}: {event.device} is not enrolled as {event.subject or 'anybody'}"
    if event.device in gone or event.subject in gone:
        yield f"lease {event.lease}: granted to {event.device} after the revocation was noticed"
