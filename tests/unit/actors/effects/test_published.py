"""`published` after a crash: what is missing of it is written once, whatever the aggregator starts from."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from structlog.testing import capture_logs

from actors.effects.published import CLOCKS_DIFFER_MS_MAX
from actors.runtime import actor as actor_module
from schemas.events import ModelPublished, UpdateAdmitted
from schemas.published import Head, describe_version, is_vouched_for, parse_checkpoint, sign_statement
from schemas.receipts.members import compute_members_root, hash_leaf, is_member, prove_membership
from schemas.topics import PUBLISHED, ROUNDS
from streams.log import Draft, Record, TopicPartition, scan
from tests.worlds.builders import policy, private_policy, trust
from tests.worlds.federation import Federation

ONES = np.ones(4, np.float32)


def _records(world: Federation, topic: str) -> list[Record]:
    return [*scan(world.log, TopicPartition(topic, world.partition))]


def test_published_is_read_from_about_the_snapshot_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an opening finds missing in `published` is written once, and what lies far before is not read for it."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy())
    for _ in range(5):
        world.round_of(dict.fromkeys("abc", ONES))
    world.now_ms += 3 * CLOCKS_DIFFER_MS_MAX
    old = len(_records(world, PUBLISHED.name))
    world.round_of(dict.fromkeys("abc", ONES))
    effects: Any = world.start("aggregator")._effects
    honest = effects.follow_up
    effects.follow_up = lambda *given, **named: dataclasses.replace(honest(*given, **named), extra_records=())
    world.round_of(dict.fromkeys("abc", ONES))
    versions = [event.version for event in world.events(ROUNDS.name, ModelPublished)]
    assert len(_records(world, PUBLISHED.name)) < len(versions)
    starts, reader, at = list[int](), world.log.reader, TopicPartition(PUBLISHED.name, world.partition)

    def watched(positions: Any) -> Any:
        starts.extend(positions[at] for _ in range(at in positions))
        return reader(positions)

    monkeypatch.setattr(world.log, "reader", watched)
    for _ in range(2):
        assert world.start("aggregator").opened.snapshot is not None
    assert min(starts) >= old
    told = [json.loads(record.value or b"")["id"] for record in _records(world, PUBLISHED.name)]
    assert told == [f"{world.task}/{version}" for version in versions]


JUNK = (b"", b"not json", b"[1]", b"7", b"\xff", b"9" * 5_000, b"[" * 100_000, b'{"id":1}', b"null")


def _announced_by_another(world: Federation, event: ModelPublished) -> bytes:
    """What whoever has any key can write."""
    head = Head(topic=ROUNDS.name, partition=world.partition, seq=0, head="00" * 32)
    return sign_statement(describe_version(event, 1, head=head), Ed25519PrivateKey.generate())


def test_what_others_write_stops_no_opening_and_hides_no_version() -> None:
    """Law 5: junk in `published` is counted, and what somebody else has signed does not stand for our announcement."""
    world = Federation(policy())
    effects: Any = world.actors["aggregator"]._effects
    honest = effects.follow_up
    effects.follow_up = lambda *given, **named: dataclasses.replace(honest(*given, **named), extra_records=())
    world.round_of(dict.fromkeys("abc", ONES))
    [version] = [event for event in world.events(ROUNDS.name, ModelPublished) if event.version == 1]
    for value in (*JUNK, _announced_by_another(world, version)):
        world.append(PUBLISHED.name, value)
    before = len(_records(world, PUBLISHED.name))
    with capture_logs() as said:
        world.start("aggregator")
    [record] = _records(world, PUBLISHED.name)[before:]
    announced = parse_checkpoint(record.value or b"")
    assert announced.id == f"{world.task}/1"
    assert is_vouched_for(announced, trust())
    counts = [line["count"] for line in said if line["event"] == "junk_skipped"]
    assert counts == [1, 2, 4, 8]


def test_an_announcement_behind_an_open_transaction_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 5: what a stranger's open transaction hides at an opening is waited for, and not announced again."""
    world = Federation(policy())
    stranger = world.log.writer("stranger")
    stranger.begin()
    stranger.put([Draft(topic=PUBLISHED.name, partition=world.partition, value=b"x")])
    world.round_of(dict.fromkeys("abc", ONES))
    assert len(_records(world, PUBLISHED.name)) == 1
    reader = world.log.reader

    def ending(positions: Any) -> Any:
        # What `published` is read through comes when its end was asked for, and the transaction is over then.
        if TopicPartition(PUBLISHED.name, world.partition) in positions:
            world.log._finish("stranger", committed=False)
        return reader(positions)

    monkeypatch.setattr(world.log, "reader", ending)
    world.start("aggregator")
    told = [json.loads(record.value or b"")["id"] for record in _records(world, PUBLISHED.name)]
    assert told == [f"{world.task}/{version}" for version in (0, 1)]


def test_an_announced_root_proves_each_member_and_hides_it() -> None:
    """Whoever is shown a member can check it against `published`; who guesses all but its salt finds nothing there."""
    world = Federation(policy())
    world.device("a").check_in()
    world.settle()
    world.device("a").submit_body(b"no body", codec="float32")
    world.round_of(dict.fromkeys("bcd", ONES))
    data = json.loads(_records(world, PUBLISHED.name)[-1].value or b"")["data"]
    members, root = world.events(ROUNDS.name, UpdateAdmitted), bytes.fromhex(data["members_root"])
    for member in members:
        proof = prove_membership(members, member.update)
        assert is_member(hash_leaf(member), proof, root=root, members=data["members"])
    guessed = [msgspec.structs.replace(member, salt=bytes(16)) for member in members]
    assert compute_members_root(guessed) != root
    assert len({member.salt for member in members}) == len(members) == 3


def test_a_zeroed_member_is_hidden_too() -> None:
    """An update on which our own code failed gets random bytes as any other: its place in the tree tells nothing."""
    world = Federation(private_policy())
    effects: Any = world.actors["aggregator"]._effects
    effects._measure = None
    world.round_of(dict.fromkeys("abc", ONES))
    members = world.events(ROUNDS.name, UpdateAdmitted)
    assert [member.zeroed for member in members] == ["defect"] * 3
    assert len({member.salt for member in members}) == 3
