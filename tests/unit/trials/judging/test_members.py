"""The judge of who takes part sees each thing that a registrar or a selector must not do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.events import DeviceEnrolled, JournalEvent, Noticed
from schemas.journal import JournalPosition
from schemas.topics import LEDGER, REGISTRY, ROUNDS, SELECTIONS
from tests.judges.identity.members import member_faults
from tests.judges.lawcheck import check
from tests.judges.logbook import Journal, Logbook
from tests.worlds.builders import (
    TASK,
    batch,
    decision,
    lease_granted,
    policy,
    public_key,
    task_created,
    update_admitted,
)
from tests.worlds.identity.enrolling import (
    PHONES,
    EnrolledFederation,
    device_revoked,
    enrolment_closed,
    enrolment_opened,
    subject_id,
)

ADA, BOB = subject_id("ada"), subject_id("bob")
ENROLLED = DeviceEnrolled(
    population=TASK,
    device_class=PHONES,
    device="a",
    public_key=public_key("a"),
    subject=ADA,
    token=bytes(32),
    replaces=None,
    until_ms=1,
)
OPENED = enrolment_opened(quota=1)
BARRED = device_revoked(population=TASK, subject=ADA, reason="forgotten")
CREATED = Noticed(fact=task_created(policy(identity="enrolled")))
GRANTED = lease_granted("a", subject=ADA)


def _enrolled(**changes: Any) -> DeviceEnrolled:
    return msgspec.structs.replace(ENROLLED, **changes)


def _faults(registry: list[JournalEvent], selections: list[JournalEvent], *rounds: JournalEvent) -> list[str]:
    told = {SELECTIONS.name: selections, ROUNDS.name: rounds, LEDGER.name: (), REGISTRY.name: registry}
    journals = {
        topic: Journal(topic, batches=[(0, batch(JournalPosition(), decision(*events)))])
        for topic, events in told.items()
    }
    return [*member_faults(Logbook(0, [], journals, {}, {}))]


FORBIDDEN: dict[str, tuple[list[JournalEvent], list[JournalEvent], str]] = {
    "a token twice": ([OPENED, ENROLLED, _enrolled(device="b")], [], "a token that is spent"),
    "a key of two subjects": ([enrolment_opened(), ENROLLED, _enrolled(subject=BOB, token=b"2" * 32)], [], "and was"),
    "after a revocation": ([OPENED, device_revoked("a"), ENROLLED], [], "after it was revoked"),
    "after being forgotten": ([OPENED, BARRED, ENROLLED], [], "after it was revoked"),
    "beyond the quota": ([OPENED, ENROLLED, _enrolled(device="b", subject=BOB, token=b"2" * 32)], [], "the quota"),
    "after the end": ([OPENED, enrolment_closed(), ENROLLED], [], "the quota"),
    "a renewal out of nothing": ([OPENED, _enrolled(token=None)], [], "was not enrolled"),
    "a lease of a stranger": ([OPENED], [CREATED, GRANTED], "is not enrolled"),
    "a lease without a subject": ([OPENED, ENROLLED], [CREATED, lease_granted("a")], "is not enrolled"),
    "a lease of who is gone": (
        [OPENED, ENROLLED, device_revoked("a")],
        [CREATED, Noticed(fact=device_revoked("a")), GRANTED],
        "after the revocation",
    ),
    "a subject in an open task": ([], [Noticed(fact=task_created()), GRANTED], "that enrols nobody"),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_what_is_forbidden_is_seen(case: str) -> None:
    """Each fault has its line."""
    registry, selections, word = FORBIDDEN[case]
    assert any(word in fault for fault in _faults(registry, selections))


def test_an_update_counts_as_its_lease_says() -> None:
    """Another subject at admission would give a person another budget."""
    registry: list[JournalEvent] = [OPENED, ENROLLED]
    assert _faults(registry, [CREATED, GRANTED], update_admitted("a", subject=ADA)) == []
    assert len(_faults(registry, [CREATED, GRANTED], update_admitted("a", subject=BOB))) == 1


def test_an_honest_world_has_no_fault() -> None:
    """With a renewal, a second key, a revocation and a lease."""
    world = EnrolledFederation(policy(identity="enrolled"))
    phone = world.enrolled("phone", "ada")
    world.enrolled("tablet", "ada")
    phone.check_in()
    world.settle()
    world.order(device_revoked(phone.id))
    assert check(world.log, world.partition, settled=True) == []
