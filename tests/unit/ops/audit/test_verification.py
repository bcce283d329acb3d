"""Journals vouch for one another, and signed heads for journals: what a chain alone cannot show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.wiring import ROLES
from ops.audit.export import CHECKPOINT, select_topics, write_export
from ops.audit.replay import Audit
from ops.audit.verification import Verification
from schemas.events import DeploymentFounded
from schemas.journal import Batch, open_record
from schemas.published import Checkpoint, Head, describe_heads, describe_version, parse_checkpoint, sign_statement
from schemas.topics import LEDGER, PUBLISHED, ROLLOUTS, ROUNDS, SELECTIONS, TASKS
from streams.exported import ExportedLog
from streams.log import Draft, EventLog, TopicPartition, scan
from tests.unit.ops.audit.test_replay import _audited
from tests.worlds.builders import ANCHOR, DEPLOYMENT, KEY, model_published, policy, role_key, written
from tests.worlds.federation import Federation
from tests.worlds.ops_journal import journalled

PRIVATE = {"noise_multiplier": 1.0, "rho_max": 9.0}


@pytest.fixture
def world() -> Federation:
    """Two private rounds."""
    world = Federation(policy(privacy=PRIVATE, stop={"versions_max": 40}))
    for turn in range(2):
        world.round_of({name + str(turn): np.ones(4, np.float32) for name in "abc"})
    return world


def _faults(log: EventLog, partition: int, *given: Checkpoint) -> list[str]:
    check = Verification(log, partition, operator=KEY.public_key)
    return [str(fault) for fault in check.check(given)]


def _saved(world: Federation) -> list[Checkpoint]:
    at = TopicPartition(PUBLISHED.name, world.partition)
    return [parse_checkpoint(record.value or b"") for record in scan(world.log, at)]


def _found(world: Federation) -> None:
    """Name the deployment in its log, as `fedlog topics create` does."""
    founded = written(DeploymentFounded(deployment=DEPLOYMENT))
    world.log.append([Draft(topic=TASKS.name, partition=0, value=founded)])


def _cut(world: Federation, topic: str, records: int) -> None:
    """Drop the last records of a topic, as if they had never been."""
    partition = world.log._partitions[TopicPartition(topic, world.partition)]
    for _ in range(records):
        while partition.entries.pop().record is None:
            pass


def _change(world: Federation, topic: str, number: int, change: Callable[[bytes], bytes]) -> int:
    """Change the value of one record, counted from the end; its offset."""
    entries = [e for e in world.log._partitions[TopicPartition(topic, world.partition)].entries if e.record]
    entry = entries[number]
    entry.record = replace(entry.record, value=change(entry.record.value or b""))
    return entry.record.offset


def test_an_honest_log_has_no_fault(world: Federation, tmp_path: Path) -> None:
    """In the log and in its export, by itself and against every checkpoint that it gave."""
    given = _saved(world)
    assert len(given) == 3
    assert _faults(world.log, world.partition, *given) == []
    write_export(world.log, [world.partition], topics=select_topics(bodies=True, inputs=True), folder=tmp_path, key=KEY)
    given.append(parse_checkpoint((tmp_path / CHECKPOINT).read_bytes().strip()))
    assert {head.topic for head in given[-1].heads} == {role.journal for role in ROLES.values()}
    assert _faults(ExportedLog(tmp_path), world.partition, *given) == []


@pytest.mark.parametrize("topic", [ROUNDS.name, LEDGER.name])
def test_a_tail_that_another_journal_has_read_is_missed(world: Federation, topic: str) -> None:
    """Without any checkpoint: who read of the tail still says so."""
    _cut(world, PUBLISHED.name, 3)
    _cut(world, topic, 1)
    assert any(f"has read {topic}" in fault for fault in _faults(world.log, world.partition))


@pytest.mark.parametrize("topic", [SELECTIONS.name, ROUNDS.name, LEDGER.name])
def test_a_cut_tail_is_found_against_a_checkpoint(world: Federation, topic: str, tmp_path: Path) -> None:
    """The head of an export vouches for every journal up to there, whoever reads it."""
    write_export(
        world.log, [world.partition], topics=select_topics(bodies=False, inputs=False), folder=tmp_path, key=KEY
    )
    given = parse_checkpoint((tmp_path / CHECKPOINT).read_bytes().strip())
    _cut(world, topic, 1)
    assert any(
        "its tail is cut off" in fault and topic in fault for fault in _faults(world.log, world.partition, given)
    )


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_a_checkpoint_of_another_deployment_is_called_one(world: Federation, named: bool) -> None:
    """Its heads are those of other journals: nothing here was cut or rewritten, and nothing is said to be."""
    _found(world)
    head = Head(topic=ROUNDS.name, partition=world.partition, seq=10**6, head="11" * 32)
    theirs = b"t" * len(DEPLOYMENT)
    statement = describe_heads([head], world.now_ms, deployment=theirs if named else None)
    copied = sign_statement(statement, KEY.signing)
    world.append(PUBLISHED.name, copied)
    signer = role_key("aggregator", deployment=theirs).signer
    version = describe_version(model_published(1), world.now_ms, head=head)
    world.append(PUBLISHED.name, sign_statement(version, signer.key, certificate=signer.certificate))
    export, announcement = [fault for fault in _faults(world.log, world.partition) if "another key" not in fault]
    assert "it was copied here from an export" in export
    assert f"of deployment {theirs.hex()[:16]}" in announcement
    given = _faults(world.log, world.partition, parse_checkpoint(copied))[-1]
    # Of one that names no deployment only its heads can be compared.
    assert (f"of deployment {theirs.hex()[:16]}" in given) is named
    assert ("its tail is cut off" in given) is not named


@pytest.mark.parametrize("theirs", [True, False], ids=["theirs", "ours"])
def test_a_bare_checkpoint_of_another_deployment_is_not_taken_for_a_loss(world: Federation, theirs: bool) -> None:
    """Saved without its certificate it names no deployment, but the key that signed it has claimed no journal here."""
    _found(world)
    head = Head(topic=ROUNDS.name, partition=world.partition, seq=10**6, head="11" * 32)
    signer = role_key("aggregator", **({"deployment": b"t" * len(DEPLOYMENT)} if theirs else {})).signer
    bare = sign_statement(describe_version(model_published(1), world.now_ms, head=head), signer.key)
    [fault] = _faults(world.log, world.partition, parse_checkpoint(bare))
    assert "its tail is cut off" in fault
    assert ("or the checkpoint is of another deployment" in fault) is theirs


def test_an_export_names_its_deployment(world: Federation, tmp_path: Path) -> None:
    """So that its heads are told from those of another of the same operator's."""
    _found(world)
    write_export(
        world.log, [world.partition], topics=select_topics(bodies=False, inputs=False), folder=tmp_path, key=KEY
    )
    assert parse_checkpoint((tmp_path / CHECKPOINT).read_bytes().strip()).deployment == DEPLOYMENT


def test_everything_cut_back_alike_is_found_against_a_checkpoint(world: Federation) -> None:
    """A whole partition set back to an earlier moment agrees with itself; the announcement somebody saved does not."""
    given = _saved(world)
    for topic in (SELECTIONS.name, LEDGER.name, ROLLOUTS.name, ROUNDS.name):
        partition = world.log._partitions[TopicPartition(topic, world.partition)]
        del partition.entries[2:]
    _cut(world, PUBLISHED.name, 3)
    assert _faults(world.log, world.partition) == []
    assert any("tail is cut off" in fault for fault in _faults(world.log, world.partition, *given))


def test_another_last_record_is_found(world: Federation) -> None:
    """Nothing follows the last record; those who have read it know its digest, and a replay asks them too."""

    def later(data: bytes) -> bytes:
        batch = open_record(data)
        assert isinstance(batch, Batch)
        return journalled(msgspec.structs.replace(batch, time_ms=batch.time_ms + 1), LEDGER.name, world.partition)

    offset = _change(world, LEDGER.name, -1, later)
    [fault] = _faults(world.log, world.partition)
    assert "has read ledger" in fault
    assert f"with the record at offset {offset} there" in fault
    for full in (False, True):
        assert Audit(world.log, world.partition, anchor=ANCHOR, full=full, to=None).run().verdict == fault


def test_a_rewritten_journal_is_found(world: Federation, tmp_path: Path) -> None:
    """A rewritten journal with a chain made anew has other heads than those announced."""
    head = bytes(32)
    for entry in world.log._partitions[TopicPartition(ROUNDS.name, world.partition)].entries:
        if entry.record is None:
            continue
        data = entry.record.value or b""
        item = open_record(data)
        if isinstance(item, Batch):
            changed = msgspec.structs.replace(item, prev=head, time_ms=item.time_ms + 1)
            data = journalled(changed, ROUNDS.name, world.partition)
            entry.record = replace(entry.record, value=data)
            head = hashlib.sha256(data).digest()
        else:
            head = hashlib.sha256(hashlib.sha256(head).digest() + hashlib.sha256(data).digest()).digest()
    faults = _faults(world.log, world.partition)
    assert any("published[" in fault and "rewritten" in fault for fault in faults)
    assert any("selections[" in fault for fault in faults)


def _resigned(change: Callable[[dict], None], key: Ed25519PrivateKey) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        event = json.loads(data)
        event.pop("signature")
        change(event)
        return sign_statement(event, key)

    return changed


OTHER = type(KEY)(bytes(32)).signing

ANNOUNCEMENTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a flipped digit": (lambda data: data.replace(b'"version":1', b'"version":7'), "signature is not over"),
    "a space": (lambda data: data.replace(b",", b", ", 1), "canonical"),
    "no json": (lambda data: data[:-1], "no announcement"),
    "nothing": (lambda data: b"", "no announcement"),
    "another's signature": (_resigned(lambda event: None, OTHER), "does not vouch"),
    "no signature": (
        lambda data: json.dumps(
            {k: v for k, v in json.loads(data).items() if k not in ("signature", "signedby", "certificate")},
            separators=(",", ":"),
            sort_keys=True,
        ).encode(),
        "not signed",
    ),
}


@pytest.mark.parametrize("name", ANNOUNCEMENTS)
def test_a_changed_announcement_is_named(world: Federation, name: str) -> None:
    """Every byte of an announcement is under its signature, and that is the operator's."""
    change, named = ANNOUNCEMENTS[name]
    offset = _change(world, PUBLISHED.name, 1, change)
    faults = [fault for fault in _faults(world.log, world.partition) if f"]@{offset}:" in fault]
    assert any(named in fault for fault in faults), faults


def test_an_announcement_twice_or_of_nothing_is_named(world: Federation) -> None:
    """`published` says each version once: the replay names what the journal does not hold."""
    at = TopicPartition(PUBLISHED.name, world.partition)
    first = next(scan(world.log, at)).value or b""
    world.append(PUBLISHED.name, first)
    told = f"]@{world.log.bounds(at).end - 1}: announces what the journal does not hold"
    assert any(str(difference).endswith(told) for difference in _audited(world).differences)


def test_what_came_since_is_no_fault(world: Federation) -> None:
    """On a log that grows, journals are read one after the other: what one says of later records waits."""
    check = Verification(world.log, world.partition, operator=KEY.public_key)
    rounds = check.reports[ROUNDS.name]
    before = {name: len(report.positions) for name, report in check.reports.items()}
    world.round_of({name + "9": np.ones(4, np.float32) for name in "abc"})
    later = Verification(world.log, world.partition, operator=KEY.public_key)
    assert len(later.reports[ROUNDS.name].positions) > before[ROUNDS.name]
    later.reports[ROUNDS.name] = rounds
    assert [str(fault) for fault in later.check()] == []


def test_the_same_history_signs_the_same_bytes(world: Federation) -> None:
    """Law 5: `published` follows from the journal and the key, so that a lost record is written again as it was."""
    partition = world.log._partitions[TopicPartition(PUBLISHED.name, world.partition)]
    before = [record.value for record in scan(world.log, TopicPartition(PUBLISHED.name, world.partition))]
    partition.entries.clear()
    world.start("aggregator")
    after = [record.value for record in scan(world.log, TopicPartition(PUBLISHED.name, world.partition))]
    assert after == before
