"""Enrolment with real workers and a real broker: a registrar that dies again and again, and a revocation on its way."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil
import pytest

from client_agent.enrolling.enrolment import EnrolmentFailed, enrol
from client_agent.enrolling.membership import Membership
from client_agent.identity import Identity
from client_agent.links.kafka import KafkaLink
from client_agent.running.loop import read_clock_ms
from schemas.devices import sign_checkin
from schemas.events import Declined, DeviceEnrolled, DeviceRevoked, Granted, LeaseGranted, Noticed
from schemas.identity.tokens import read_token
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import Logbook, read
from tests.places import home_of
from tests.worlds.builders import device_checked_in, device_key, policy
from tests.worlds.stage import Stage, Worker, say, staged

TASK = "wards"
NAMES = tuple(f"phone-{number}" for number in range(8))
RULES = policy(identity="enrolled", selection={"devices_expected": 10, "concurrency": 10, "retry_after_s": 0.2})


def make_token(stage: Stage, name: str) -> bytes:
    """A token as the console prints it."""
    return read_token(stage.fedlog("enrol", "token", TASK, "--subject", name).stdout)


def kill(worker: Worker) -> None:
    """The child dies at once, wherever it is; its supervisor starts another."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if (child := worker.child()) is not None:
            child.kill()


def ask(stage: Stage, link: KafkaLink, membership: Membership) -> str:
    """Check in until there is an answer: `granted`, or why not."""
    found = list[str]()

    def is_answered() -> bool:
        checkin = device_checked_in(
            membership.identity.device,
            task=TASK,
            public_key=membership.identity.public_key,
            sent_ms=read_clock_ms(),
            certificate=membership.certificate or b"",
        )
        link.check_in(TASK, sign_checkin(checkin, membership.identity.key, deployment=stage.deployment))
        link.send()
        answers = [answer for answer in link.read_answers(2.0) if answer.device == membership.identity.device]
        found.extend(
            "granted" if isinstance(answer, Granted) else answer.reason
            for answer in answers
            if isinstance(answer, Granted | Declined)
        )
        return bool(found)

    stage.until(is_answered, f"an answer to {membership.identity.label}", timeout_s=60.0)
    return found[-1]


def read_book(stage: Stage) -> Logbook:
    """What stands in the task's partition."""
    return read(stage.log, home_of(TASK), operator=stage.key.public_key, deployment=stage.deployment)


@pytest.mark.timeout(240)
def test_a_registrar_that_dies_enrols_each_once(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Guarantee: whenever it is killed, each token enrols one device once; who is revoked gets no lease then."""
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, RULES, parameters=6)
        registrar, *_ = stage.start("registrar", "selector", "aggregator")
        opened = stage.fedlog("enrol", "open", TASK, "--quota", "20")
        assert opened.exit_code == 0, opened.output
        identities = {name: Identity(name, device_key(name)) for name in NAMES}
        link = KafkaLink(stage.log, stage.key.public_key, [one.device for one in identities.values()])
        members = {name: Membership(tmp_path / name, TASK, one) for name, one in identities.items()}
        tokens = {name: make_token(stage, name) for name in NAMES}
        for number, name in enumerate(NAMES):
            (tmp_path / name).mkdir()
            if number % 3 == 1:
                kill(registrar)
            enrol(link, members[name], token=tokens[name])
        with pytest.raises(EnrolmentFailed, match="token_spent"):
            enrol(link, members[NAMES[0]], token=tokens[NAMES[1]])
        assert {ask(stage, link, members[name]) for name in NAMES[:2]} == {"granted"}
        revoked = stage.fedlog("revoke", "--device", identities[NAMES[2]].device)
        say(revoked.stdout.strip())
        assert "is revoked" in revoked.stdout
        assert ask(stage, link, members[NAMES[2]]) == "revoked"
        link.close()
        stage.until_lawful(home_of(TASK))
        book = read_book(stage)
        assert sorted(event.device for event in book.registry.events(DeviceEnrolled)) == sorted(
            one.device for one in identities.values()
        )
        assert registrar.starts > 3
        [noticed] = [event.fact for event in book.selections.events(Noticed) if isinstance(event.fact, DeviceRevoked)]
        assert noticed.device not in {event.device for event in book.selections.events(LeaseGranted)}
        replayed = stage.fedlog("replay", "--full", "--json")
        assert replayed.exit_code == 0, replayed.output
