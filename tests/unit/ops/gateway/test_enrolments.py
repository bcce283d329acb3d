"""Enrolment through a gateway, before a real registrar and selector: who is let in, and who is told what to do."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client_agent.enrolling.crowd import enrol_crowd
from client_agent.enrolling.enrolment import EnrolmentFailed, enrol
from client_agent.enrolling.membership import Membership
from client_agent.identity import Identity
from client_agent.links.http import HttpLink
from client_agent.links.refusals import read_refusal
from client_agent.links.requests import GatewayOptions, Reply
from schemas.canonical import decode
from schemas.certificates import parse_certified
from schemas.devices import sign_checkin
from schemas.events import Declined, DeploymentFounded, EnrolmentRefused, Granted
from schemas.events.enrolment import EnrolmentRefusal
from schemas.events.selection import IdentityReason
from schemas.identity.certificates import read_device_certificate, sign_certificate
from schemas.identity.requests import ask_to_enrol, sign_request
from schemas.identity.tokens import SKEW_MS, TOKEN_MS
from schemas.topics import CHECKINS, ENROLMENTS
from streams.log import Draft, TopicPartition, scan
from tests.worlds.builders import DEPLOYMENT, KEY, TASK, device_checked_in, device_key, policy, role_key, written
from tests.worlds.gateway.asking import Told, ask, wait_until
from tests.worlds.gateway.served import served
from tests.worlds.identity.enrolling import (
    EnrolledFederation,
    device_certificate,
    device_revoked,
    signed_token,
    subject_id,
)


def read_clock_ms() -> int:
    """The wall clock, by which a gateway goes."""
    return time.time_ns() // 1_000_000


class Town:
    """A federation of enrolled phones behind a gateway."""

    def __init__(self, url: str, world: EnrolledFederation, folder: Path) -> None:
        self.url, self.world, self.folder = url, world, folder

    def count(self, topic: str) -> int:
        """How many records there are."""
        return sum(1 for _ in scan(self.world.log, TopicPartition(topic, self.world.partition)))

    def membership(self, name: str) -> Membership:
        """A phone's, empty at first."""
        (self.folder / name).mkdir(exist_ok=True)
        return Membership(self.folder / name, TASK, Identity(name, device_key(name)))

    def token(self, subject: str = "ada", **changes: object) -> bytes:
        """A token made now."""
        return signed_token(subject, **{"at_ms": read_clock_ms(), **changes})

    def request(self, name: str, token: bytes | None, *, population: str = TASK, key: str = "") -> Told:
        """A phone asks to be enrolled."""
        asked = ask_to_enrol(population, device_key(name), token=token)
        return self.post("/v1/enrolments", sign_request(asked, device_key(key or name), deployment=DEPLOYMENT))

    def check_in(self, name: str, certificate: bytes) -> Told:
        """A phone checks in, and shows this."""
        one = Identity(name, device_key(name))
        said = device_checked_in(
            one.device, public_key=one.public_key, sent_ms=read_clock_ms(), certificate=certificate
        )
        return self.post("/v1/check-ins", sign_checkin(said, one.key, deployment=DEPLOYMENT))

    def post(self, path: str, message: bytes) -> Told:
        """One request, which waits for nothing."""
        return ask(self.url, "POST", path, data=message)

    @contextmanager
    def linked(self, *names: str) -> Iterator[HttpLink]:
        """A link of these phones."""
        devices = [Identity(name, device_key(name)).device for name in names]
        link = HttpLink(GatewayOptions(url=self.url), KEY.public_key, devices)
        try:
            yield link
        finally:
            link.close()

    def enrol(self, name: str, token: bytes) -> Membership:
        """The whole way, by the code that devices run."""
        membership = self.membership(name)
        with self.linked(name) as link:
            self.work_beside(lambda: enrol(link, membership, token=token))
        return membership

    def work_beside(self, ask_for: Callable[[], object]) -> None:
        """Let the actors work while somebody asks."""
        failed = list[EnrolmentFailed]()

        def go() -> None:
            try:
                ask_for()
            except EnrolmentFailed as error:
                failed.append(error)

        going = threading.Thread(target=go)
        going.start()
        while going.is_alive():
            self.world.settle()
            going.join(0.01)
        if failed:
            raise failed[0]


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    """Ten phones may enrol."""
    world = EnrolledFederation(policy(identity="enrolled", device_classes=["phones"]))
    # A gateway goes by the clock of its machine, and the log of this world by whatever it is told.
    world.now_ms = read_clock_ms()
    world.log.append([Draft(topic="tasks", partition=0, value=written(DeploymentFounded(deployment=DEPLOYMENT)))])
    with served(world.log, tmp_path / "gateway") as url:
        yield Town(url, world, tmp_path)


def test_a_phone_enrols_and_is_let_in(town: Town) -> None:
    """Guarantee: a token becomes a certificate over HTTP alone, and with it the phone gets a lease."""
    membership = town.enrol("a", town.token())
    assert membership.certificate is not None
    told = town.check_in("a", membership.certificate)
    assert told.status == 202
    town.world.settle()
    wait_until(lambda: ask(town.url, "GET", told.headers["location"]).status == 200)
    answer = parse_certified(ask(town.url, "GET", told.headers["location"]).data)
    assert isinstance(decode(answer.payload, Granted), Granted)


def test_a_fleet_enrols_with_a_token_each(town: Town) -> None:
    """Guarantee: many devices of a link enrol at once, each as a subject of its own; who is enrolled needs no token."""
    identities = {number: Identity(name, device_key(name)) for number, name in enumerate("abcd")}
    for one in identities.values():
        (town.folder / one.label).mkdir()
    found = dict[int, Membership]()

    def go(tokens: list[bytes]) -> None:
        found.update(enrol_crowd(link, identities, folder=town.folder, population=TASK, tokens=tokens))

    with town.linked(*"abcd") as link:
        town.work_beside(lambda: go([town.token(name) for name in "abc"]))
        assert [one.certificate is not None for one in found.values()] == [True, True, True, False]
        subjects = {read_device_certificate(one.certificate or b"").subject for one in list(found.values())[:3]}
        assert subjects == {subject_id(name) for name in "abc"}
        asked = town.count(ENROLMENTS.name)
        # Started again, and with other tokens: who has a certificate asks for none.
        town.work_beside(lambda: go([town.token(name) for name in "abc"]))
    assert town.count(ENROLMENTS.name) == asked


@given(
    st.integers(100, 599),
    st.sampled_from([*get_args(EnrolmentRefusal), *get_args(IdentityReason), "admitted", "", "granted"]),
    st.booleans(),
)
def test_a_refusal_is_a_no_and_never_more(status: int, code: str, is_checkin: bool) -> None:
    """Law: whatever a gateway says in its own words, nothing of it is a lease, a certificate or an outcome."""
    one = Identity("a", device_key("a"))
    said = device_checked_in(one.device, public_key=one.public_key)
    asked = sign_request(ask_to_enrol(TASK, one.key, token=None), one.key, deployment=DEPLOYMENT)
    message = sign_checkin(said, one.key, deployment=DEPLOYMENT) if is_checkin else asked
    told = read_refusal(Reply(status, {}, json.dumps({"code": code, "detail": "no"}).encode()), message)
    if told is not None:
        assert status in (401, 403)
        assert isinstance(told, Declined if is_checkin else EnrolmentRefused)
        assert told.reason == code
        assert told.device == one.device
    assert read_refusal(Reply(status, {}, b"junk"), message) is None
    assert read_refusal(Reply(status, {}, json.dumps({"code": code}).encode()), b"junk") is None


def test_what_the_registrar_refuses_is_told_as_it_signed_it(town: Town) -> None:
    """Guarantee: a spent token enrols nobody else, and whoever holds the phone hears what to do."""
    token = town.token()
    town.enrol("a", token)
    with pytest.raises(EnrolmentFailed, match="token_spent: another device has used the token"):
        town.enrol("b", token)
    told = town.request("c", token)
    assert told.status == 202
    town.world.settle()
    wait_until(lambda: ask(town.url, "GET", told.headers["location"]).status == 200)
    said = decode(parse_certified(ask(town.url, "GET", told.headers["location"]).data).payload, EnrolmentRefused)
    assert said.reason == "token_spent"


def test_what_no_registrar_would_take_stands_in_no_log(town: Town) -> None:
    """Guarantee: tokens that are forged, late or for elsewhere are refused at the door, each with its remedy."""
    before, now_ms = town.count(ENROLMENTS.name), read_clock_ms()
    forged = town.token(by=device_key("a stranger"))
    late = town.token(at_ms=now_ms - TOKEN_MS - SKEW_MS - 60_000)
    for told, status, code in [
        (town.request("a", forged), 403, "bad_token"),
        (town.request("a", late), 401, "token_expired"),
        (town.request("a", town.token(), population="elsewhere"), 403, "bad_token"),
        (town.request("a", town.token(), key="b"), 403, "signature_invalid"),
        (town.post("/v1/enrolments", b"junk"), 400, "request_unreadable"),
        (town.post("/v1/enrolments", bytes(3_000)), 413, "too_large"),
        (ask(town.url, "GET", "/v1/enrolments/junk"), 404, "not_found"),
    ]:
        assert (told.status, told.problem["code"]) == (status, code)
    assert "ask for another one" in town.request("a", late).problem["detail"]
    assert town.count(ENROLMENTS.name) == before
    with pytest.raises(EnrolmentFailed, match="token_expired: a token is good for ten minutes"):
        town.enrol("a", late)


def test_who_may_not_take_part_is_told_at_the_door(town: Town) -> None:
    """Guarantee: wrong, late and foreign certificates cost the log nothing, and say nothing about anybody else."""
    signer, a = role_key("registrar").signer, device_certificate("a")
    changed = {
        "not_enrolled": [b"", b"junk", sign_certificate(device_certificate("b"), signer)],
        "other_population": [sign_certificate(device_certificate("a", population="elsewhere"), signer)],
        "other_class": [sign_certificate(device_certificate("a", device_class="cars"), signer)],
    }
    # Signed by somebody whom the operator has not made a registrar.
    changed["not_enrolled"].append(sign_certificate(a, role_key("selector").signer))
    for code, certificates in changed.items():
        for certificate in certificates:
            told = town.check_in("a", certificate)
            assert (told.status, told.problem["code"]) == (403, code)
            assert told.problem["detail"].startswith(f"{code}: ")
    over = sign_certificate(device_certificate("a", until_ms=read_clock_ms() - 60_000), signer)
    told = town.check_in("a", over)
    assert (told.status, told.problem["code"]) == (401, "certificate_expired")
    # The registrar's own end is that of all that it has signed.
    ended = role_key("registrar", until_ms=read_clock_ms() - 60_000).signer
    assert town.check_in("a", sign_certificate(a, ended)).problem["code"] == "certificate_expired"
    assert town.count(CHECKINS.name) == 0
    assert town.check_in("a", sign_certificate(a, signer)).status == 202


def test_who_is_revoked_hears_so_at_the_door(town: Town) -> None:
    """Guarantee: a gateway learns of revocations from the registrar's journal, of devices and of whole subjects."""
    members = {name: town.enrol(name, town.token(name)) for name in ("a", "b", "c")}
    town.world.order(device_revoked(members["a"].identity.device))
    barred = device_revoked(population=TASK, subject=subject_id("b"), reason="forgotten")
    town.world.order(barred)
    for name in ("a", "b"):
        certificate = members[name].certificate or b""
        wait_until(lambda certificate=certificate, name=name: town.check_in(name, certificate).status == 403)
        assert town.check_in(name, certificate).problem["code"] == "revoked"
    assert town.check_in("c", members["c"].certificate or b"").status == 202
    # A device takes it for what the selector would have said.
    with town.linked("a") as link:
        one = members["a"].identity
        said = device_checked_in(
            one.device, public_key=one.public_key, sent_ms=1, certificate=members["a"].certificate or b""
        )
        message = sign_checkin(said, one.key, deployment=DEPLOYMENT)
        link.check_in(TASK, message)
        [answer] = link.read_answers(20)
    assert isinstance(answer, Declined)
    assert (answer.reason, answer.checkin_sha256) == ("revoked", hashlib.sha256(message).digest())
