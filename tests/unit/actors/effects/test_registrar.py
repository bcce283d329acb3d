"""The registrar in a federation: from a token to a lease, and what keeps everybody else out."""

from __future__ import annotations

import pytest

from schemas.events import CheckinsDeclined, Declined, DeviceEnrolled, Granted, LeaseGranted
from schemas.topics import REGISTRY, SELECTIONS
from tests.worlds.builders import device_id, policy
from tests.worlds.identity.enrolling import EnrolledDevice, EnrolledFederation, subject_id


@pytest.fixture
def world() -> EnrolledFederation:
    """A task for enrolled devices, of which none is enrolled yet."""
    return EnrolledFederation(policy(identity="enrolled"))


def reason(device: EnrolledDevice) -> str:
    """Why the device was declined last, or that it was granted a lease."""
    answer = [answer for answer in device.answers() if isinstance(answer, Declined | Granted)][-1]
    return "granted" if isinstance(answer, Granted) else answer.reason


def ask(world: EnrolledFederation, device: EnrolledDevice) -> str:
    """Check in, and what the selector says."""
    world.now_ms += 1
    device.check_in()
    world.settle()
    return reason(device)


def test_an_enrolled_device_is_granted_a_lease_and_others_are_not(world: EnrolledFederation) -> None:
    """Guarantee: under `enrolled` a key that no registrar has certified gets no lease, and one that it has does."""
    phone = world.enrolled("phone", "ada")
    assert ask(world, phone) == "granted"
    assert ask(world, world.device("stranger")) == "not_enrolled"
    [granted] = world.events(SELECTIONS.name, LeaseGranted)
    assert (granted.device, granted.subject) == (device_id("phone"), subject_id("ada"))
    [enrolled] = world.events(REGISTRY.name, DeviceEnrolled)
    assert (enrolled.device, enrolled.subject) == (device_id("phone"), subject_id("ada"))
    assert world.events(SELECTIONS.name, CheckinsDeclined)[-1].counts == {"not_enrolled": 1}
