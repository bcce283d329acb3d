"""The registrar in a federation: from a token to a lease, and what keeps everybody else out."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from actors.keys import OperatorKey
from ops.virtual.server import feed
from schemas.events import (
    CheckinsDeclined,
    Declined,
    DeviceEnrolled,
    DeviceRevoked,
    EnrolmentClosed,
    Granted,
    InputsDropped,
    LeaseClosed,
    LeaseGranted,
    UpdateAdmitted,
)
from schemas.identity.certificates import CERTIFICATE_MS, RENEWABLE_MS, sign_certificate
from schemas.identity.requests import ask_to_enrol, sign_request
from schemas.identity.tokens import SKEW_MS, TOKEN_MS
from schemas.leases import read_lease
from schemas.topics import ENROLMENTS, REGISTRY, ROUNDS, SELECTIONS
from streams.log import WriterFenced
from tests.judges.lawcheck import check
from tests.worlds.builders import DEPLOYMENT, FOR_EVER_MS, device_id, policy, private_policy, role_key
from tests.worlds.federation import describe_opening, open_actor
from tests.worlds.identity.enrolling import (
    EnrolledDevice,
    EnrolledFederation,
    device_certificate,
    device_revoked,
    enroller_signer,
    enrolment_closed,
    enrolment_opened,
    subject_id,
)


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


# --- tokens ---------------------------------------------------------------------------------------------------------


def test_a_token_enrols_one_device(world: EnrolledFederation) -> None:
    """Guarantee: who has a token second is refused, and told so; who had it first gets the same answer again."""
    token, phone, thief = world.token("ada"), world.device("phone"), world.device("thief")
    for device in (phone, thief, phone):
        device.ask(token)
    world.settle()
    assert (phone.told(), thief.told()) == ("enrolled", "token_spent")
    assert len(world.events(REGISTRY.name, DeviceEnrolled)) == 1


@pytest.mark.parametrize(("late_ms", "expected"), [(0, "enrolled"), (1, "token_expired")])
def test_a_token_is_good_for_ten_minutes(world: EnrolledFederation, late_ms: int, expected: str) -> None:
    """Guarantee: it counts up to its end, by the log's time, and not after it."""
    token, phone = world.token("ada"), world.device("phone")
    world.now_ms += TOKEN_MS + late_ms
    phone.ask(token)
    world.settle()
    assert phone.told() == expected


def test_a_spent_token_is_remembered_for_as_long_as_it_is_good(world: EnrolledFederation) -> None:
    """Guarantee: a token shown again at its last moment, with others used since, is spent, and later expired."""
    token = world.token("ada")
    world.device("phone").ask(token)
    world.settle()
    world.now_ms += TOKEN_MS
    world.enrolled("tablet", "bob")
    thief = world.device("thief")
    thief.ask(token)
    world.settle()
    assert thief.told() == "token_spent"
    world.now_ms += SKEW_MS
    thief.ask(token)
    world.settle()
    assert thief.told() == "token_spent" or thief.told() == "token_expired"


BAD = {
    "signed by a stranger": {"by": OperatorKey(bytes(32)).signing},
    "of another deployment": {"deployment": bytes(16)},
    "signed by a role that may not": {"by": role_key("selector").signer},
    "by an enroller whose certificate is over": {"by": enroller_signer(until_ms=1)},
    "good for a year": {"until_ms": FOR_EVER_MS},
    "of another population": {"population": "other"},
}


@pytest.mark.parametrize("case", BAD)
def test_a_token_that_nobody_may_make_is_refused(world: EnrolledFederation, case: str) -> None:
    """Guarantee: only the operator and certified enrollers let devices in, here, and for a short time."""
    phone = world.device("phone")
    phone.ask(world.token("ada", **BAD[case]))
    world.settle()
    assert phone.told() == "bad_token"
    assert world.events(REGISTRY.name, DeviceEnrolled) == []


def test_an_enroller_lets_devices_in(world: EnrolledFederation) -> None:
    """A help desk with a key of its own needs nothing of the operator's."""
    phone = world.device("phone")
    phone.ask(world.token("ada", by=enroller_signer()))
    world.settle()
    assert phone.told() == "enrolled"


def test_a_token_for_one_device_is_of_no_use_to_another(world: EnrolledFederation) -> None:
    """Guarantee: a token that names a device enrols that one, whoever else has it."""
    token, thief, phone = world.token("ada", device=device_id("phone")), world.device("thief"), world.device("phone")
    thief.ask(token)
    phone.ask(token)
    world.settle()
    assert (thief.told(), phone.told()) == ("other_device", "enrolled")


def test_nobody_enrols_with_another_s_key(world: EnrolledFederation) -> None:
    """Guarantee: a request whose sender does not hold the key is nothing: it is counted, and no answer is given."""
    phone, thief = world.device("phone"), world.device("thief")
    request = ask_to_enrol(world.task, phone.key, token=world.token("ada"))
    world.append(ENROLMENTS.name, sign_request(request, thief.key, deployment=DEPLOYMENT))
    world.append(ENROLMENTS.name, sign_request(request, phone.key, deployment=bytes(16)))
    world.settle()
    assert world.events(REGISTRY.name, DeviceEnrolled) == []
    assert sum(event.count for event in world.events(REGISTRY.name, InputsDropped)) == 2


# --- enrolments -----------------------------------------------------------------------------------------------------


def test_an_enrolment_ends_by_its_quota_its_time_or_an_order(world: EnrolledFederation) -> None:
    """Guarantee: no more subjects than were asked for, not later, and not after it was closed; a copy opens nothing."""
    end_ms = world.now_ms + 1_000
    world.order(enrolment_opened(2, quota=1, until_ms=end_ms))
    world.enrolled("phone", "ada")
    late = world.device("tablet")
    told = []
    for order in (None, enrolment_opened(3, until_ms=world.now_ms), enrolment_opened(4), enrolment_closed(4)):
        if order is not None:
            world.order(order)
        world.now_ms += 2
        if order == enrolment_opened(4):
            world.order(enrolment_opened(2))
            continue
        late.ask(world.token("bob"))
        world.settle()
        told.append(late.told())
    world.order(enrolment_opened(4))
    late.ask(world.token("bob"))
    world.settle()
    assert [*told, late.told()] == ["quota", "enrolment_over", "no_enrolment", "no_enrolment"]


def test_only_who_may_orders_anything(world: EnrolledFederation) -> None:
    """Guarantee: an order of a stranger, of another role, or of another deployment changes nothing."""
    stranger = OperatorKey(bytes(32)).signing
    world.order(enrolment_closed(), by=stranger)
    world.order(enrolment_closed(), by=role_key("aggregator").signer)
    world.order(enrolment_closed(deployment=bytes(16)))
    assert world.events(REGISTRY.name, EnrolmentClosed) == []
    assert sum(event.count for event in world.events(REGISTRY.name, InputsDropped)) == 3


def test_a_flood_of_requests_costs_the_journal_counts(world: EnrolledFederation) -> None:
    """Guarantee (law 9): what enrols nobody is counted by reason, however much of it comes."""
    phone = world.enrolled("phone", "ada")
    before = sum(len(decision.events) for decision in world.journal(REGISTRY.name))
    token = world.token("bob", by=OperatorKey(bytes(32)).signing)
    for number in range(50):
        world.device(f"x{number}").ask(token)
        world.device(f"x{number}").ask(None, population=world.task)
        phone.ask(None)
    world.settle()
    events = [event for decision in world.journal(REGISTRY.name)[:] for event in decision.events][before:]
    assert [event.counts for event in events] == [{"bad_token": 50, "not_enrolled": 50}]


# --- subjects -------------------------------------------------------------------------------------------------------


def test_a_new_key_of_the_same_subject_is_the_same_in_every_count() -> None:
    """Guarantee: the privacy cap counts the person or machine, whatever key its updates come from."""
    world = EnrolledFederation(private_policy(rho_max=1.0, identity="enrolled", stop={"versions_max": 4}))
    assert world.rules.participations_cap == 2
    for turn in range(2):
        phones = [world.enrolled(f"{name}{turn}", name) for name in "abc"]
        for phone in phones:
            assert ask(world, phone) == "granted"
        for phone in phones:
            phone.submit(np.ones(4, np.float32), world.rules)
        world.settle()
    admitted = world.events(ROUNDS.name, UpdateAdmitted)
    assert len({event.device for event in admitted}) == 6
    assert len({event.subject for event in admitted}) == 3
    assert ask(world, world.enrolled("a2", "a")) == "participations"


def test_a_subject_has_one_lease_at_a_time(world: EnrolledFederation) -> None:
    """Guarantee: with two keys nobody trains twice in a round; the second hears that the first is at work."""
    phone, tablet = world.enrolled("phone", "ada"), world.enrolled("tablet", "ada")
    assert (ask(world, phone), ask(world, tablet)) == ("granted", "subject_busy")
    phone.abandon(read_lease(phone.granted().sealed).lease, subject=subject_id("ada"))
    tablet.abandon(read_lease(phone.granted().sealed).lease, subject=subject_id("ada"))
    world.settle()
    [closed] = world.events(SELECTIONS.name, LeaseClosed)
    assert (closed.device, closed.outcome) == (phone.id, "abandoned")


def test_a_key_stays_with_its_subject(world: EnrolledFederation) -> None:
    """Guarantee: a key that counts as one subject never counts as another, or caps could be passed by it."""
    phone = world.enrolled("phone", "ada")
    phone.ask(world.token("bob"))
    world.settle()
    assert phone.told() == "other_subject"


# --- certificates ---------------------------------------------------------------------------------------------------


def test_a_certificate_is_renewed_before_its_end_and_not_after(world: EnrolledFederation) -> None:
    """Guarantee: 30 days, renewed in the last 20; asked for earlier it is the same again, and costs no event."""
    phone = world.enrolled("phone", "ada")
    first = phone.certificate
    phone.ask(None)
    world.settle()
    assert (phone.told(), phone.certificate) == ("enrolled", first)
    world.now_ms += CERTIFICATE_MS - RENEWABLE_MS
    phone.ask(None)
    world.settle()
    assert phone.told() == "enrolled"
    assert phone.certificate != first
    world.now_ms += CERTIFICATE_MS + 1
    phone.ask(None)
    world.settle()
    assert phone.told() == "certificate_expired"
    assert len(world.events(REGISTRY.name, DeviceEnrolled)) == 2


def test_a_successor_takes_the_place_of_a_key(world: EnrolledFederation) -> None:
    """Guarantee: the new key counts as the same subject, and the old one gets no lease any more."""
    phone = world.enrolled("phone", "ada")
    world.now_ms += CERTIFICATE_MS - RENEWABLE_MS
    phone.ask_for("new phone")
    world.settle()
    new = world.device("new phone")
    new.ask(None)
    world.settle()
    assert new.told() == "enrolled"
    assert world.events(REGISTRY.name, DeviceEnrolled)[-1].subject == subject_id("ada")
    assert ask(world, phone) == "revoked"
    assert ask(world, new) == "granted"


def test_a_certificate_of_another_deployment_is_none(world: EnrolledFederation) -> None:
    """Guarantee: what a registrar of staging certified is nothing in production, nor what another role did."""
    phone = world.device("phone")
    certified = device_certificate("phone")
    other = msgspec.structs.replace(certified, deployment=bytes(16))
    for certificate, signer in (
        (other, role_key("registrar").signer),
        (certified, role_key("registrar", deployment=bytes(16)).signer),
        (certified, role_key("selector").signer),
        (certified, role_key("registrar", key=OperatorKey(bytes(32))).signer),
    ):
        phone.certificate = sign_certificate(certificate, signer)
        assert ask(world, phone) == "not_enrolled"
    phone.certificate = sign_certificate(certified, role_key("registrar").signer)
    assert ask(world, phone) == "granted"


# --- revocation, and forgetting -------------------------------------------------------------------------------------


def test_a_revoked_device_gets_no_lease_from_then_on(world: EnrolledFederation) -> None:
    """Guarantee: in the order of the log: no lease after the selector has noticed the revocation; and no new start."""
    phone = world.enrolled("phone", "ada")
    world.order(device_revoked(phone.id))
    assert ask(world, phone) == "revoked"
    phone.ask(None)
    world.settle()
    assert phone.told() == "revoked"
    phone.ask(world.token("ada"))
    world.settle()
    assert phone.told() == "revoked"
    world.order(device_revoked(phone.id))
    assert len(world.events(REGISTRY.name, DeviceRevoked)) == 1
    assert world.events(SELECTIONS.name, LeaseGranted) == []


def test_a_forgotten_subject_does_not_come_again(world: EnrolledFederation) -> None:
    """Guarantee: none of its keys, and no token that was made for it before; the journal's chain is whole."""
    phone, token = world.enrolled("phone", "ada"), world.token("ada")
    world.order(device_revoked(population=world.task, subject=subject_id("ada"), reason="forgotten"))
    assert ask(world, phone) == "revoked"
    phone.ask(None)
    world.device("new").ask(token)
    world.settle()
    assert (phone.told(), world.device("new").told()) == ("forgotten", "forgotten")
    assert check(world.log, world.partition, settled=True) == []


def test_the_registrar_comes_back_from_its_journal(world: EnrolledFederation) -> None:
    """Law 1, and two registrars: the next one knows what was spent, and the one before writes nothing any more."""
    token = world.token("ada")
    world.device("phone").ask(token)
    world.settle()
    old = world.actors["registrar"]
    world.start("registrar")
    thief = world.device("thief")
    thief.ask(token)
    world.settle()
    assert thief.told() == "token_spent"
    assert describe_opening(open_actor(world, "registrar")) == describe_opening(
        open_actor(world, "registrar", whole=True)
    )
    world.device("x").ask(world.token("bob"))
    with pytest.raises(WriterFenced):
        feed(old, world.log, most=10)
