"""What an operator does about enrolments, on a log in memory whose actors are at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from client_agent.running.loop import read_clock_ms
from ops.operator.enrolling.authority import Authority
from ops.operator.enrolling.orders import EnrolmentMissing, Registrations
from ops.operator.enrolling.standing import list_members, read_home
from ops.operator.enrolling.vault import SubjectForgotten, SubjectUnknown, Vault
from schemas.events import DeviceRevoked
from schemas.topics import REGISTRY
from tests.worlds.builders import DEPLOYMENT, KEY, TASK, device_id, policy
from tests.worlds.federation import at_work
from tests.worlds.identity.enrolling import PHONES, EnrolledFederation, enroller_signer


@pytest.fixture
def world() -> EnrolledFederation:
    """Ten phones may enrol."""
    return EnrolledFederation(policy(identity="enrolled"), partitions=1)


@pytest.fixture
def there(world: EnrolledFederation) -> Registrations:
    """The operator, on that log."""
    subjects = KEY.derive_subjects(DEPLOYMENT)
    return Registrations(world.log, Authority(KEY.signing, KEY.public_key, DEPLOYMENT, subjects))


def test_a_second_opening_counts_on(world: EnrolledFederation, there: Registrations) -> None:
    """Each opening of a class has the next number, and a close is of the newest; an unknown one cannot be closed."""
    assert there.open(TASK, PHONES, quota=3, days=1).number == 2
    world.settle()
    assert there.close(TASK, PHONES).number == 2
    world.settle()
    enrolment = read_home(world.log, TASK, trust=there.trust).populations[TASK].enrolments[PHONES]
    assert (enrolment.is_open, enrolment.quota) == (False, 3)
    with pytest.raises(EnrolmentMissing):
        there.close(TASK, "cars")


def test_a_revocation_is_told_once_every_selector_knows(world: EnrolledFederation, there: Registrations) -> None:
    """The command waits for the selectors' journals, and says so where nobody decides."""
    phone = world.enrolled("phone", "ada")
    with at_work(world):
        assert there.revoke(phone.id, reason="stolen") is not None
    [revoked] = world.events(REGISTRY.name, DeviceRevoked)
    assert (revoked.device, revoked.reason) == (phone.id, "stolen")


def test_forgetting_bars_the_subject_and_deletes_its_salt(
    world: EnrolledFederation, there: Registrations, tmp_path: Path
) -> None:
    """Guarantee: the same name gets no token again, no device of it is enrolled, and another vault forgets nobody."""
    vault, phone = Vault(tmp_path / "vault"), world.device("phone")
    member = Registrations(world.log, Authority(enroller_signer(), *_rest(there)))
    world.now_ms = read_clock_ms()
    phone.ask(member.make_token(TASK, PHONES, vault=vault, name="ada"))
    world.settle()
    assert phone.told() == "enrolled"
    [(population, _)] = list_members(world.log, phone.id, trust=there.trust)
    with pytest.raises(SubjectUnknown):
        there.forget(vault=Vault(tmp_path / "other"), device=phone.id)
    assert world.events(REGISTRY.name, DeviceRevoked) == []
    with at_work(world):
        assert there.forget(vault=vault, device=phone.id) == [population] == [TASK]
    with pytest.raises(SubjectForgotten):
        there.make_token(TASK, PHONES, vault=vault, name="ada")
    assert list(list_members(world.log, device_id("phone"), trust=there.trust)) == []


def _rest(there: Registrations) -> tuple[bytes, bytes, bytes]:
    authority = there.authority
    return authority.operator, authority.deployment, authority.subjects
