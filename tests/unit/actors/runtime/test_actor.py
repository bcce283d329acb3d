"""The actor: what it takes, in which order, and what it writes down, whatever decider it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from actors.hosts.assembly import assemble
from actors.runtime import actor as actor_module
from actors.runtime import inputs as inputs_module
from actors.runtime.actor import Actor
from actors.runtime.inputs import Gap
from actors.runtime.journal import Uncommitted, _pack
from actors.runtime.replay import ReplayDiffers
from schemas.canonical import JOURNAL_RECORD_BYTES_MAX, encode
from schemas.events import (
    CheckinsDeclined,
    InputsDropped,
    JournalEvent,
    LeaseGranted,
    ModelPublished,
    Noticed,
    StateDigest,
    TaskPaused,
)
from schemas.journal import Batch, ChainBroken, JournalPosition, Position, WriterClaimed, open_record
from schemas.topics import CHECKINS, PUBLISHED, ROUNDS, SELECTIONS, TASKS
from streams.log import CommitUncertain, Record, TopicPartition, WriterFenced, scan
from streams.memory import MemoryWriter
from tests.worlds.builders import (
    batch,
    decision,
    device_id,
    device_ids,
    policy,
    role_key,
    task_paused,
    written,
)
from tests.worlds.federation import Federation
from tests.worlds.ops_journal import journalled

ONES = np.ones(4, np.float32)


def _records(world: Federation, topic: str) -> list[Record]:
    return [*scan(world.log, TopicPartition(topic, world.partition))]


def _batches(world: Federation, topic: str) -> list[Batch]:
    found = [open_record(record.value or b"") for record in _records(world, topic)]
    return [record for record in found if isinstance(record, Batch)]


def _fresh(world: Federation, name: str) -> Actor[Any]:
    """The next process: opened, and nothing read yet."""
    actor = assemble(name, world.partition, log=world.log, key=role_key(name))
    actor.open()
    return actor


def _replaced(actor: Actor[Any], **parts: Callable[..., Any]) -> None:
    actor._decider = dataclasses.replace(actor._decider, **parts)


# --- gaps -----------------------------------------------------------------------------------------------------------


def test_a_gap_is_raised_before_anything_behind_it_is_decided() -> None:
    """What came before the hole is decided and committed; nothing behind it, and the position names the hole."""
    world = Federation(policy())
    for name in "abcd":
        world.device(name).check_in()
    selector = world.actors["selector"]
    first, second, _, fourth = _records(world, CHECKINS.name)
    with pytest.raises(Gap) as gap:
        selector.handle([first, second, fourth])
    assert (gap.value.topic, gap.value.expected, gap.value.found) == (CHECKINS.name, 2, 3)
    assert [event.device for event in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("ab")
    assert selector.find_expected(CHECKINS.name) == 2
    world.settle()
    assert [event.device for event in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("abcd")


def test_a_first_record_behind_others_is_a_gap() -> None:
    """Law 2, any group offset: an input never read before starts at its beginning, not where its first record is."""
    world = Federation(policy())
    for name in "abc":
        world.device(name).check_in()
    selector = world.actors["selector"]
    with pytest.raises(Gap) as gap:
        selector.handle(_records(world, CHECKINS.name)[1:])
    assert (gap.value.expected, gap.value.found) == (0, 1)
    world.settle()
    assert [event.device for event in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("abc")


def test_a_hole_that_is_real_can_be_skipped() -> None:
    """Where the log itself holds nothing, the host says so and the actor goes on behind the hole."""
    world = Federation(policy())
    for name in "abc":
        world.device(name).check_in()
    selector = world.actors["selector"]
    selector.skip(CHECKINS.name, 2)
    selector.handle(_records(world, CHECKINS.name)[2:])
    assert [event.device for event in world.events(SELECTIONS.name, LeaseGranted)] == device_ids("c")


@pytest.mark.parametrize("start", [1, 2, 3])
def test_a_journal_read_from_the_middle_is_a_gap(start: int) -> None:
    """Another actor's journal that comes from a random offset, claims first or not, is no broken chain: go back."""
    world = Federation(policy())
    lagging = world.actors.pop("selector")
    world.start("aggregator")
    for number in range(1, 4):
        world.append(TASKS.name, written(task_paused(number)))
        world.settle()
    before = (lagging.find_expected(ROUNDS.name), lagging._inputs.journals[ROUNDS.name].position)
    unread = [record for record in _records(world, ROUNDS.name) if record.offset >= before[0]]
    with pytest.raises(Gap):
        lagging.handle(unread[start:])
    assert (lagging.find_expected(ROUNDS.name), lagging._inputs.journals[ROUNDS.name].position) == before
    lagging.handle(unread)
    assert len([event for event in world.events(SELECTIONS.name, Noticed) if isinstance(event.fact, TaskPaused)]) == 3


def test_a_zombies_batch_behind_an_unseen_claim_is_a_gap() -> None:
    """Law 4: what a superseded writer wrote follows the chain for whoever skipped the claim before it; so go back."""
    world = Federation(policy())
    lagging = world.actors.pop("selector")
    at = world.actors["aggregator"]._journal._chain.at
    world.start("aggregator")
    late = decision(Noticed(fact=task_paused(task=world.task)), topic=TASKS.name, offset=9, time_ms=1)
    world.append(ROUNDS.name, journalled(batch(at, late), ROUNDS.name, world.partition))
    unread = [record for record in _records(world, ROUNDS.name) if record.offset >= lagging.find_expected(ROUNDS.name)]
    with pytest.raises(Gap):
        lagging.handle(unread[-1:])
    lagging.handle(unread)
    assert lagging._inputs.journals[ROUNDS.name].zombies == 1
    assert not [event for event in world.events(SELECTIONS.name, Noticed) if isinstance(event.fact, TaskPaused)]


def test_a_broken_journal_stops_its_reader() -> None:
    """A record that is off the chain, with nothing missing before it, is no gap: the reader names topic and offset."""
    world = Federation(policy())
    lagging = world.actors.pop("selector")
    world.append(TASKS.name, written(task_paused(task=world.task)))
    world.settle()
    [unread] = [
        record for record in _records(world, ROUNDS.name) if record.offset >= lagging.find_expected(ROUNDS.name)
    ]
    later = batch(JournalPosition(claim=unread.offset))
    broken = dataclasses.replace(unread, value=journalled(later, ROUNDS.name, world.partition))
    with pytest.raises(ChainBroken, match=f"{ROUNDS.name}.*@{unread.offset}"):
        lagging.handle([broken])


def test_what_was_decided_decides_nothing_again() -> None:
    """An input below the position moves nothing, commits nothing and answers nobody."""
    world = Federation(policy())
    world.device("a").check_in()
    world.settle()
    before = (len(_records(world, SELECTIONS.name)), len(world.device("a").answers()))
    world.actors["selector"].handle(_records(world, CHECKINS.name))
    assert (len(_records(world, SELECTIONS.name)), len(world.device("a").answers())) == before


# --- batches --------------------------------------------------------------------------------------------------------


def test_batches_stay_below_the_limit() -> None:
    """A run of inputs with more decisions than a record holds becomes several, each whole, in one transaction."""
    world = Federation(policy(selection={"devices_expected": 4_000, "concurrency": 4_000}))
    for number in range(2_500):
        world.device(f"d{number}").check_in()
    before = len(_batches(world, SELECTIONS.name))
    world.feed("selector", most=2_500)
    written = _batches(world, SELECTIONS.name)[before:]
    assert len(written) > 1
    assert all(len(encode(batch)) <= JOURNAL_RECORD_BYTES_MAX for batch in written)
    ends = [batch.position.offsets[CHECKINS.name] for batch in written]
    lasts = [batch.decisions[-1].offset for batch in written]
    assert ends == [last + 1 for last in lasts]
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == 2_500


def test_a_position_that_only_moved_is_forced_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs that decide nothing cost no record, but a restart does not read more than so many of them again."""
    monkeypatch.setattr(inputs_module, "WRITTEN_AFTER_INPUTS", 50)
    world = Federation(policy())
    world.device("a").check_in()
    world.settle()
    before = len(_batches(world, SELECTIONS.name))
    for number in range(1, 51):
        world.device("a").check_in()
        world.feed("selector")
        assert len(_batches(world, SELECTIONS.name)) == before + (number == 50)
    forced = _batches(world, SELECTIONS.name)[-1]
    assert forced.decisions == ()
    assert forced.position.offsets[CHECKINS.name] == 51
    assert _fresh(world, "selector").find_expected(CHECKINS.name) == 51


def test_a_position_that_stands_for_an_hour_is_forced() -> None:
    """The same by log time."""
    world = Federation(policy(selection={"lease_s": 86_400.0}, stop={"versions_max": 9, "idle_s": 86_400.0}))
    world.device("a").check_in()
    world.settle()
    before = len(_batches(world, SELECTIONS.name))
    world.pass_ms(inputs_module.WRITTEN_AFTER_MS - 1)
    assert len(_batches(world, SELECTIONS.name)) == before
    world.pass_ms(1)
    assert _batches(world, SELECTIONS.name)[-1].decisions == ()


# --- digests --------------------------------------------------------------------------------------------------------


def _digested(monkeypatch: pytest.MonkeyPatch) -> Federation:
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy())
    for name in "abcdefgh":
        world.device(name).check_in()
        world.feed("selector")
    return world


def test_a_digest_is_written_every_so_many_decisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every so many decisions the journal holds the digest of the state, and a replay agrees with it."""
    world = _digested(monkeypatch)
    digests = world.events(SELECTIONS.name, StateDigest)
    assert [event.decisions for event in digests] == [4] * len(digests)
    assert len(digests) >= 2
    assemble("selector", world.partition, log=world.log, key=role_key("selector")).open(whole=True)


def test_a_state_is_counted_only_where_a_digest_may_be_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting the entries takes as long as there are tasks, so a decision that is followed by no digest is without."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy())
    before, counted = len(world.events(SELECTIONS.name, StateDigest)), []
    _replaced(world.actors["selector"], entries=lambda state: counted.append(state) or 0)
    for name in "abcdefgh":
        world.device(name).check_in()
        world.feed("selector")
    assert len(counted) == len(world.events(SELECTIONS.name, StateDigest)) - before > 0


def test_a_replay_that_folds_otherwise_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold that differs from the one that wrote the journal is found at the next digest, with its offset."""
    world = _digested(monkeypatch)
    other = assemble("selector", world.partition, log=world.log, key=role_key("selector"))
    fold = other._decider.evolve

    def forgetful(state: Any, event: Any, time_ms: int) -> None:
        if not (isinstance(event, LeaseGranted) and event.device == device_id("b")):
            fold(state, event, time_ms)

    _replaced(other, evolve=forgetful)
    with pytest.raises(ReplayDiffers, match=r"selections\[\d+\] offset \d+"):
        other.open(whole=True)


def test_what_only_counts_brings_no_digest_nearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crowd of strangers cannot have the whole state hashed and stored: it leaves the state as it is."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy())
    digests, before = len(world.events(SELECTIONS.name, StateDigest)), len(_batches(world, SELECTIONS.name))
    for _ in range(20):
        world.append(CHECKINS.name, b"junk")
        world.feed("selector")
    assert len(_batches(world, SELECTIONS.name)) == before + 20
    assert len(world.events(SELECTIONS.name, StateDigest)) == digests


def test_what_is_counted_stands_before_what_is_decided() -> None:
    """One event for all junk of a run wherever it stood; decisions keep their order, and the position covers both."""
    world = Federation(policy())
    for name in "abc":
        world.append(CHECKINS.name, b"junk")
        world.device(name).check_in()
    world.append(CHECKINS.name, b"junk")
    world.feed("selector")
    counted, *decided = _batches(world, SELECTIONS.name)[-1].decisions
    assert counted.events == (InputsDropped(topic=CHECKINS.name, count=4, first_offset=0, last_offset=6),)
    assert [(decision.offset, decision.events[0].device) for decision in decided] == [
        (1, device_id("a")),
        (3, device_id("b")),
        (5, device_id("c")),
    ]
    assert _batches(world, SELECTIONS.name)[-1].position.offsets[CHECKINS.name] == 7


def test_counts_of_many_tasks_stay_below_the_limit() -> None:
    """Law 5: room is reserved for each task that is counted, so that a run over many tasks is several records."""
    counted = [
        Uncommitted(
            [decision(CheckinsDeclined(task=f"t{n}", counts={"no_slot": 1}), topic=CHECKINS.name, offset=n)],
            Position(offsets={CHECKINS.name: n + 1}),
        )
        for n in range(2_000)
    ]
    packed = _pack(counted, counted[-1].position)
    for record in packed:
        record.finish()
    assert len(packed) > 1
    assert all(sum(map(len, record.encoded)) <= JOURNAL_RECORD_BYTES_MAX for record in packed)
    assert [record.position.offsets[CHECKINS.name] - 1 for record in packed] == [
        record.decisions[0].offset for record in packed
    ]
    assert sum(len(record.decisions[0].events) for record in packed) == len(counted)


# --- fences ---------------------------------------------------------------------------------------------------


def test_the_older_of_two_writers_is_fenced() -> None:
    """Law 3: once another process has claimed, the next commit of the one before fails, and leaves no trace."""
    world = Federation(policy())
    older = world.actors["selector"]
    world.start("selector")
    world.device("a").check_in()
    before = _records(world, SELECTIONS.name)
    with pytest.raises(WriterFenced):
        older.handle(_records(world, CHECKINS.name))
    assert _records(world, SELECTIONS.name) == before
    world.settle()
    assert len(world.events(SELECTIONS.name, LeaseGranted)) == 1


def test_a_claim_ends_what_is_open_beside_its_journal() -> None:
    """The commit of the aggregator's claim leaves a marker in `published`, and no record."""
    world = Federation(policy())
    at = TopicPartition(PUBLISHED.name, world.partition)
    before = world.log.find_written_end(at)
    world.start("aggregator")
    assert world.log.find_written_end(at) == before + 1
    assert [*scan(world.log, at, start=before)] == []


def test_a_claim_that_the_log_does_not_hold_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 3: a claim that was reported as committed and is not there ends the process; the next claim finds out."""
    world = Federation(policy())

    def lies(writer: MemoryWriter) -> None:
        world.log._finish(f"selector.{world.partition}", committed=False)

    monkeypatch.setattr(MemoryWriter, "finish", lies)
    with pytest.raises(CommitUncertain, match="is not in the log"):
        _fresh(world, "selector")
    monkeypatch.undo()
    assert _fresh(world, "selector").state.tasks


def test_a_superseded_actor_does_not_blame_an_input() -> None:
    """Laws 3 and 9: who slept while a successor worked and then fails on an input is fenced; that is no defect."""
    world = Federation(policy())
    sleeper = world.actors["selector"]

    def fail(state: Any, fact: Any, time_ms: int) -> list[JournalEvent]:
        raise KeyError("a lease that the successor granted")

    _replaced(sleeper, decide=fail)
    successor = world.start("selector")
    world.round_of({"a": ONES})
    with pytest.raises(WriterFenced, match="another writer has claimed it"):
        sleeper.handle(_records(world, ROUNDS.name))
    assert (sleeper.guard.defects, sleeper.guard.skips) == (0, {})
    assert successor.find_expected(ROUNDS.name) > sleeper.find_expected(ROUNDS.name)


def test_every_life_claims_with_a_nonce_of_its_own() -> None:
    """A claim stands before each life's batches, names its writer, and its nonce is never the same."""
    world = Federation(policy())
    world.start("aggregator")
    found = [open_record(record.value or b"") for record in _records(world, ROUNDS.name)]
    claims = [record for record in found if isinstance(record, WriterClaimed)]
    assert len({claim.nonce for claim in claims}) == len(claims) == 2
    assert {(claim.actor, claim.partition) for claim in claims} == {("aggregator", world.partition)}
    assert isinstance(found[0], WriterClaimed)


def test_log_time_never_goes_back() -> None:
    """Law 10: time is the largest append time seen, whatever a broker's clock says later."""
    world = Federation(policy())
    world.now_ms += 5_000
    world.device("a").check_in()
    world.settle()
    world.now_ms -= 4_000
    world.device("b").check_in()
    world.settle()
    first, second = world.events(SELECTIONS.name, LeaseGranted)
    assert second.deadline_ms == first.deadline_ms
    assert world.events(ROUNDS.name, ModelPublished)
    assert not world.events(SELECTIONS.name, CheckinsDeclined)
