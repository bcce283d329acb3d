"""Somebody who may write to every topic and holds no key: nothing is believed because it stands in the log."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest

from actors.deciders.tallies import TALLY_KINDS
from actors.keys import OperatorKey
from actors.runtime import actor as actor_module
from schemas.canonical import decode, encode
from schemas.certificates import Signer, parse_certified
from schemas.events import (
    DeploymentFounded,
    InputsDropped,
    ModelPublished,
    Noticed,
    TaskClosed,
    TaskCreated,
    TaskHalted,
    TaskPaused,
    VersionEvaluated,
)
from schemas.journal import Snapshot
from schemas.leases import sign_lease
from schemas.published import parse_checkpoint, sign_statement
from schemas.topics import (
    CATALOGUE,
    EVALUATIONS,
    JOURNALS,
    MODELS,
    PUBLISHED,
    ROUNDS,
    SELECTIONS,
    SNAPSHOTS,
    TASKS,
    UPDATES,
    partition_of,
)
from streams.log import CommitUncertain, Draft, TopicPartition, WriterFenced, scan
from streams.memory import MemoryWriter
from tests.judges.lawcheck import check_book
from tests.judges.logbook import read
from tests.places import PARTITIONS
from tests.worlds.builders import (
    DEPLOYMENT,
    KEY,
    device_id,
    lease,
    policy,
    private_policy,
    public_key,
    role_key,
    scored,
    signed,
    task_closed,
    task_created,
    task_paused,
    task_resumed,
    update_submitted,
    writer_claimed,
    written,
)
from tests.worlds.federation import Federation, describe_opening, find_refusals, open_actor
from tests.worlds.ops_journal import journalled
from tests.worlds.rounds import evaluator_id

STRANGER = OperatorKey(bytes(32))
ONES = np.ones(4, np.float32)
TARGET: dict[str, Any] = {"stop": {"versions_max": 100, "target_metric": "accuracy", "target_value": 0.9}}


def noticed(world: Federation) -> list[Any]:
    """What the aggregator took over from others."""
    return [event.fact for event in world.events(ROUNDS.name, Noticed)]


def lawful(world: Federation) -> list[str]:
    """Every violation, for a judge who knows the operator's public key."""
    book = read(world.log, world.partition, operator=KEY.public_key, deployment=DEPLOYMENT)
    return check_book(world.log, book, settled=True)


def weigh(created: TaskCreated) -> TaskCreated:
    """The attack on the noise: weights beside which it is nothing."""
    return msgspec.structs.replace(created, weights=(1 << 40,) * len(created.weights))


def test_only_the_operator_says_what_becomes_of_a_task() -> None:
    """Creations, pauses and closes that anybody else wrote are counted and change nothing."""
    world = Federation(policy())
    model = world.actors["aggregator"].state.tasks[world.task].created.model
    said = [task_created(task="mine", model=model), task_paused(), task_closed()]
    values = [value for event in said for value in (encode(event), written(event, STRANGER))]
    for value in (*values, b"junk", b""):
        world.append(TASKS.name, value)
    world.settle()
    assert [type(fact) for fact in noticed(world)] == [TaskCreated]
    assert sum(dropped.count for dropped in world.events(ROUNDS.name, InputsDropped)) == len(values) + 2
    assert lawful(world) == []


@pytest.mark.parametrize(
    "change",
    [weigh, lambda created: msgspec.structs.replace(created, deployment=bytes(16))],
    ids=["weights", "another deployment"],
)
def test_a_creation_that_replay_would_refuse_is_refused_at_once(change: Any) -> None:
    """Even with the operator's signature: before a version could come of it, and not only when somebody audits."""
    world = Federation(policy())
    model = world.actors["aggregator"].state.tasks[world.task].created.model
    # In its place, or it would be refused for that.
    names = (f"other-{number}" for number in itertools.count())
    other = next(name for name in names if partition_of(name, PARTITIONS) == world.partition)
    world.append(TASKS.name, written(change(task_created(task=other, model=model))))
    world.settle()
    assert [fact.task for fact in noticed(world)] == [world.task]
    world.append(TASKS.name, written(task_created(task=other, model=model)))
    world.settle()
    assert [fact.task for fact in noticed(world)] == [world.task, other]
    [dropped] = world.events(ROUNDS.name, InputsDropped)
    assert (dropped.topic, dropped.count) == (TASKS.name, 1)


def test_a_copy_of_a_pause_pauses_nothing() -> None:
    """The operator's signature is over a number that has been; a close says the same as often as it is copied."""
    world = Federation(policy())
    for value in (task_paused(1), task_resumed(2), task_paused(1), task_resumed(2), task_paused(2)):
        world.append(TASKS.name, written(value))
        world.settle()
    assert world.actors["aggregator"].state.tasks[world.task].status == "open"
    assert len([fact for fact in noticed(world) if isinstance(fact, TaskPaused)]) == 1
    for deployment, closes in ((bytes(16), 0), (DEPLOYMENT, 1), (DEPLOYMENT, 1)):
        world.append(TASKS.name, written(TaskClosed(task=world.task, deployment=deployment)))
        world.settle()
        assert len([fact for fact in noticed(world) if isinstance(fact, TaskClosed)]) == closes


def test_the_name_of_a_deployment_is_no_business_of_an_actor() -> None:
    """Its own stands in its key: another name in the log, even a signed one, moves nothing."""
    world = Federation(policy())
    world.append(TASKS.name, written(DeploymentFounded(deployment=b"x" * 16)))
    world.settle()
    assert [type(fact) for fact in noticed(world)] == [TaskCreated]


def test_only_a_certified_evaluator_scores_and_only_what_exists() -> None:
    """A stranger's score, another role's, and one of a version to come cannot end a task; an evaluator's can."""
    world = Federation(policy(**TARGET))
    world.round_of(dict.fromkeys("abc", ONES))
    on_target = VersionEvaluated(task=world.task, version=1, metrics={"accuracy": 1.0}, samples=9, cohort="")
    far = msgspec.structs.replace(on_target, version=10**6)
    aggregator = role_key("aggregator").signer
    forged = [encode(on_target), aggregator.certify(encode(on_target)), scored(on_target, key=STRANGER), scored(far)]
    for value in (*forged, scored(on_target, deployment=bytes(16)), scored(on_target, until_ms=0)):
        world.append(EVALUATIONS.name, value)
        world.settle()
    assert world.events(ROUNDS.name, TaskHalted) == []
    assert lawful(world) == []
    world.append(EVALUATIONS.name, scored(on_target))
    world.settle()
    assert [halted.reason for halted in world.events(ROUNDS.name, TaskHalted)] == ["target"]


def test_no_evaluator_speaks_as_another() -> None:
    """A quorum is of keys: one key under many names, one without a name, and a thousand strangers are no quorum."""
    world = Federation(policy(**TARGET, evaluation={"quorum": 2}))
    on_target = VersionEvaluated(task=world.task, version=0, metrics={"accuracy": 1.0}, samples=9, cohort="")
    names = [evaluator_id(serial) for serial in range(3)]
    under = [msgspec.structs.replace(on_target, evaluator=name) for name in names]
    strangers = [OperatorKey(number.to_bytes(32)) for number in range(1, 9)]
    forged = [scored(word, key=stranger) for word in under for stranger in strangers]
    for value in (*map(encode, under), *forged, *map(scored, under), scored(on_target), scored(under[0])):
        world.append(EVALUATIONS.name, value)
        world.settle()
    assert world.events(ROUNDS.name, TaskHalted) == []
    assert [fact.evaluator for fact in noticed(world) if isinstance(fact, VersionEvaluated)] == [names[0]]
    assert lawful(world) == []
    world.append(EVALUATIONS.name, scored(under[1], serial=1))
    world.settle()
    assert [halted.reason for halted in world.events(ROUNDS.name, TaskHalted)] == ["target"]
    assert lawful(world) == []


def test_a_strangers_announcement_hides_no_version() -> None:
    """After a crash the aggregator announces what is missing: a forged record of that name is no announcement."""
    world = Federation(policy())
    world.round_of(dict.fromkeys("abc", ONES))
    at = TopicPartition(PUBLISHED.name, world.partition)
    [_, second] = scan(world.log, at)
    entries = world.log._partitions[at].entries
    [entry] = [entry for entry in entries if entry.record is not None and entry.record.offset == second.offset]
    statement = {"id": f"{world.task}/1", "time": "2026-01-01T00:00:00.000Z", "data": {"journals": []}}
    world.append(PUBLISHED.name, sign_statement(statement, STRANGER.signing))
    for junk in (b"not json", b"[1]", b"\xff", b"9" * 5_000, b"[" * 100_000):
        world.append(PUBLISHED.name, junk)
    entry.record = None
    open_actor(world, "aggregator", whole=True)
    found = [record.value or b"" for record in scan(world.log, at)]
    assert second.value in found
    assert parse_checkpoint(found[-1]).id == f"{world.task}/1"
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]


def test_whatever_was_said_is_said_once() -> None:
    """Every record of a plain topic, copied into each that a stranger may write, in any order, decides nothing."""
    world = Federation(private_policy())
    for names in ("abc", "def"):
        world.round_of(dict.fromkeys(names, ONES))
    decided = {journal.name: decisions_of(world, journal.name) for journal in JOURNALS}
    plain = [topic.name for topic in CATALOGUE if not topic.is_journal]
    said = [record for name in plain for record in scan(world.log, TopicPartition(name, world.partition))]
    for record in (*said, *reversed(said)):
        for name in set(plain) - {MODELS.name, SNAPSHOTS.name, PUBLISHED.name}:
            world.log.append([Draft(topic=name, partition=world.partition, value=record.value, key=record.key)])
    world.settle()
    assert {journal.name: decisions_of(world, journal.name) for journal in JOURNALS} == decided
    assert lawful(world) == []


def decisions_of(world: Federation, journal: str) -> list[Any]:
    """The events of a journal but for those that only count."""
    return [event for event in world.events(journal) if type(event) not in TALLY_KINDS]


def test_a_lease_needs_the_selectors_certificate_and_the_selectors_key() -> None:
    """Another role's, deployment's or operator's, one that has run out, and any mixture of two: no outcome at all."""
    world = Federation(policy())
    created = world.actors["aggregator"].state.tasks[world.task].created
    under = lease(device_id("a"), of=created, public_key=public_key("a"), deadline_ms=world.now_ms + 60_000)
    selector, evaluator = role_key("selector").signer, role_key("evaluator").signer
    signers = [role_key(role).signer for role in ("aggregator", "privacy", "shard", "evaluator")]
    signers += [role_key("selector", deployment=bytes(16)).signer, role_key("selector", key=STRANGER).signer]
    signers += [role_key("selector", until_ms=world.now_ms - 1).signer, Signer(selector.key, written(task_closed()))]
    signers += [Signer(evaluator.key, selector.certificate), Signer(selector.key, evaluator.certificate)]
    for signer in signers:
        world.append(UPDATES.name, signed(update_submitted(sign_lease(under, signer), b"x"), "a"))
    # The right lease in the wrong hands.
    world.append(UPDATES.name, signed(update_submitted(sign_lease(under, selector), b"x"), "b"))
    world.settle()
    assert find_refusals(world) == []
    assert sum(dropped.count for dropped in world.events(ROUNDS.name, InputsDropped)) == len(signers) + 1


@pytest.mark.parametrize("hand", ["none", "borrowed", "another role", "another deployment", "expired"])
def test_a_copy_of_a_batch_takes_no_actor_back(monkeypatch: pytest.MonkeyPatch, hand: str) -> None:
    """An old batch with a digest, copied to the journal's end: what came since would be decided once more."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy())
    for _ in range(5):
        world.round_of(dict.fromkeys("abc", ONES))
    at = TopicPartition(SELECTIONS.name, world.partition)
    message = parse_certified(
        next(
            one.value or b""
            for one in scan(world.log, TopicPartition(SNAPSHOTS.name, world.partition))
            if one.key == b"selector"
        )
    )
    manifest = decode(message.payload, Snapshot)
    old = next(one.value or b"" for one in scan(world.log, at) if one.offset == manifest.offset)
    [copied] = world.log.append([Draft(**at._asdict(), value=old)])
    expected = describe_opening(open_actor(world, "selector", whole=True))
    said = encode(msgspec.structs.replace(manifest, offset=copied))
    expired = role_key("selector", until_ms=world.now_ms - 1)
    values = {
        "none": said,
        "borrowed": encode(msgspec.structs.replace(message, payload=said)),
        "another role": role_key("evaluator").signer.certify(said),
        "another deployment": role_key("selector", deployment=bytes(16)).signer.certify(said),
        "expired": expired.signer.certify(said),
    }
    place = {"topic": SNAPSHOTS.name, "partition": world.partition, "key": b"selector"}
    world.log.append([Draft(**place, value=values[hand])])
    actor = open_actor(world, "selector")
    assert (actor.opened.snapshot, describe_opening(actor)) == (None, expected)


def test_what_was_signed_and_aborted_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a commit of several records that died, the last copied alone: it must not look like the loss of the others."""

    def die(_: MemoryWriter) -> None:
        raise CommitUncertain("killed")

    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy())
    for number in range(11):
        world.device(f"n{number}").check_in()
    at = TopicPartition(SELECTIONS.name, world.partition)
    with monkeypatch.context() as killed:
        killed.setattr(MemoryWriter, "finish", die)
        with pytest.raises(CommitUncertain):
            world.feed("selector")
    *_, last = (entry.record for entry in world.log._partitions[at].entries if entry.record is not None)
    world.log.writer(f"selector.{at.partition}")
    world.log.append([Draft(**at._asdict(), value=last.value)])
    world.start("selector")
    world.settle()
    assert lawful(world) == []


def test_a_claim_within_a_transaction_is_seen_by_its_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has its key fences nobody: it would go on, and answer devices from batches that no reader takes."""
    world, finish = Federation(policy()), MemoryWriter.finish
    at = TopicPartition(SELECTIONS.name, world.partition)

    def finish_late(writer: MemoryWriter) -> None:
        after = world.log.find_written_end(at)
        world.log.append(
            [Draft(**at._asdict(), value=journalled(writer_claimed("selector", *at[1:], after=after), *at))]
        )
        finish(writer)

    world.device("a").check_in()
    with monkeypatch.context() as beside:
        beside.setattr(MemoryWriter, "finish", finish_late)
        world.feed("selector")
    world.device("b").check_in()
    with pytest.raises(WriterFenced, match="another writer has claimed it"):
        world.feed("selector")
