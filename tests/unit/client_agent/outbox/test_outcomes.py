"""A device keeps what its aggregator signed, byte for byte and within bounds, and goes on where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from client_agent.links.kafka import KafkaLink
from client_agent.outbox import outcomes
from client_agent.outbox.outcomes import KeptOutcomes
from schemas.canonical import encode
from schemas.events import Outcome
from schemas.receipts.receipt import Exclusion, check
from schemas.topics import ANSWERS
from streams.log import Draft
from tests.places import answer_home
from tests.worlds.builders import KEY, device_id, lease_id, role_key, told
from tests.worlds.device_world import PHONE, TASK, World


def outcome(name: str = "u", *, said: str = "stale", task: str = TASK, device: str = PHONE) -> Outcome:
    """What became of an update."""
    return Outcome(device=device, task=task, update=lease_id(name), record_sha256=bytes(32), outcome=said)


def test_what_was_signed_is_kept_as_it_came(tmp_path: Path) -> None:
    """The first counts; another task's is not kept; nobody else may look; it proves what it says."""
    kept, first = KeptOutcomes(tmp_path, TASK), told(outcome())
    kept.keep(outcome(), first)
    kept.keep(outcome(said="closed"), told(outcome(said="closed")))
    kept.keep(outcome("v", task="other"), told(outcome("v", task="other")))
    assert kept.find(lease_id("u")) == first
    assert kept.find(lease_id("v")) is None
    assert [(each.update, each.outcome) for each in kept.list_told()] == [(lease_id("u"), "stale")]
    assert check(Exclusion(answer=first.hex()), KEY.public_key).outcome == "stale"
    (folder,) = tmp_path.iterdir()
    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0, 0]


def test_the_oldest_give_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that lives for years does not fill its disk, and what a crash has left is no outcome."""
    monkeypatch.setattr(outcomes, "OUTCOMES_MAX", 3)
    kept = KeptOutcomes(tmp_path, TASK)
    for number in range(5):
        kept.keep(outcome(str(number)), told(outcome(str(number))))
        os.utime(tmp_path / f"{TASK}.outcomes" / lease_id(str(number)), (number, number))
    (tmp_path / f"{TASK}.outcomes" / f"{lease_id('6')}.new").write_bytes(b"half")
    assert [each.update for each in kept.list_told()] == [lease_id(str(number)) for number in (2, 3, 4)]


def test_a_full_disk_does_not_end_a_device(tmp_path: Path) -> None:
    """It learns its outcome all the same."""
    (tmp_path / f"{TASK}.outcomes").write_text("a file where the folder would be")
    KeptOutcomes(tmp_path, TASK).keep(outcome(), told(outcome()))
    assert KeptOutcomes(tmp_path, TASK).list_told() == []


def test_a_link_hands_on_what_the_aggregator_signed(tmp_path: Path) -> None:
    """Not what a stranger or another role says, nor what is for another device."""
    world, kept = World(), KeptOutcomes(tmp_path, TASK)
    link = KafkaLink(world.log, KEY.public_key, [PHONE], keep=kept.keep)
    other, said = device_id("other"), outcome()
    strangers = role_key("aggregator", key=type(KEY)(bytes(31) + b"\x07")).signer
    records = [
        (PHONE, strangers.certify(encode(outcome("a")))),
        (other, told(outcome("b", device=other))),
        (PHONE, told(said)),
    ]
    for device, value in records:
        at = answer_home(device)
        world.log.append([Draft(topic=ANSWERS.name, partition=at, value=value)])
    assert link.read_answers(0.0) == [said]
    assert [each.update for each in kept.list_told()] == [said.update]
    assert kept.find(said.update) == told(said)
