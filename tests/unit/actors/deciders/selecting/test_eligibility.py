"""Who gets no lease where the policy asks for enrolled devices; all other reasons are specified with the selector."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from actors.deciders.selecting.eligibility import CheckedIn, why_not
from actors.deciders.selector import SELECTOR
from schemas.events import CheckinsDeclined, DeclineReason, IdentityReason, JournalEvent, Noticed
from schemas.identity.certificates import DeviceCertificate
from schemas.policy import Policy
from tests.worlds.builders import TASK, device_checked_in, lease_granted, model_published, policy, task_created
from tests.worlds.identity.enrolling import device_certificate, device_revoked
from tests.worlds.specification import given


def _task(rules: Policy) -> tuple[JournalEvent, ...]:
    return Noticed(fact=task_created(rules)), Noticed(fact=model_published())


ENROLLED = policy(identity="enrolled", device_classes=["phones"])
CERTIFICATE = device_certificate("a")


def _change(**changes: Any) -> DeviceCertificate:
    return msgspec.structs.replace(CERTIFICATE, **changes)


# What a registrar has certified of the device, with what came before it; and why it gets no lease.
UNKNOWN: dict[str, tuple[tuple[tuple[JournalEvent, ...], DeviceCertificate | None], DeclineReason]] = {
    "no certificate": (((), None), "not_enrolled"),
    "that of another key": (((), _change(public_key=device_certificate("b").public_key)), "not_enrolled"),
    "of another population": (((), _change(population="other")), "other_population"),
    "of another class": (((), _change(device_class="cars")), "other_class"),
    "that has run out": (((), _change(until_ms=1)), "certificate_expired"),
    "of a device that is revoked": (((Noticed(fact=device_revoked("a")),), CERTIFICATE), "revoked"),
    "of a subject that is revoked": (
        ((Noticed(fact=device_revoked(population=TASK, subject=CERTIFICATE.subject)),), CERTIFICATE),
        "revoked",
    ),
    "of a subject whose other key has a lease": (
        ((lease_granted("b", subject=CERTIFICATE.subject),), CERTIFICATE),
        "subject_busy",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_a_device_that_nobody_vouches_for_is_declined(case: str) -> None:
    """Where the policy asks for enrolled devices, each thing that may be wrong with a certificate has its reason."""
    (before, certificate), reason = UNKNOWN[case]
    situation = given(SELECTOR, *_task(ENROLLED), *before)
    asked = CheckedIn(device_checked_in("a", sent_ms=2), certificate)
    situation.at(2).when(asked).then(CheckinsDeclined(task=TASK, counts={reason: 1}))
    assert why_not(given(SELECTOR, *_task(ENROLLED)).state, CheckedIn(asked.checkin, CERTIFICATE), time_ms=2) is None


def test_every_reason_is_specified() -> None:
    """The closed list of reasons and the cases above are the same."""
    assert {reason for _, reason in UNKNOWN.values()} == {*get_args(IdentityReason)}
