"""Inputs: the position after each, what a journal's record holds, and whether a hole is real (law 2)."""

from __future__ import annotations

import pytest

from actors.runtime.inputs import WRITTEN_AFTER_INPUTS, WRITTEN_AFTER_MS, Gap, Inputs
from schemas.canonical import encode
from schemas.events import RoundOpened, Tick
from schemas.journal import JournalPosition
from schemas.topics import CATALOGUE, ROUNDS, UPDATES
from streams.journals import JournalBroken
from streams.log import Draft, OffsetLost, Record, TopicPartition, scan
from streams.memory import MemoryLog
from tests.worlds.builders import TASK, batch, trust
from tests.worlds.ops_journal import Journal, journalled

PARTITION = 3
ROUNDS_AT, UPDATES_AT = TopicPartition(ROUNDS.name, PARTITION), TopicPartition(UPDATES.name, PARTITION)
OPENED = [RoundOpened(task=TASK, round=number) for number in range(4)]


class World:
    """A log with some ticks in `updates` and a journal of two lives, and inputs that read them."""

    def __init__(self, ticks: int = 3) -> None:
        self.now_ms = 1_000
        self.log = MemoryLog(CATALOGUE, clock=lambda: self.now_ms)
        self.tick(ticks)
        journal = Journal(self.log, ROUNDS.name, PARTITION)
        journal.batch(OPENED[0], OPENED[1])
        journal.claim()
        journal.batch(OPENED[2])
        self.inputs = Inputs(self.log, [ROUNDS_AT], trust=trust())

    def tick(self, count: int = 1) -> None:
        """Append ticks."""
        self.log.append([Draft(topic=UPDATES.name, partition=PARTITION, value=encode(Tick()))] * count)

    def records(self, at: TopicPartition) -> list[Record]:
        """All records of a partition."""
        return list(scan(self.log, at))


def test_a_plain_record_gives_itself() -> None:
    """The position steps behind it, and log time is the largest append time seen."""
    world = World()
    for record in world.records(UPDATES_AT):
        assert list(world.inputs.read(record)) == [record]
    assert world.inputs.position.offsets == {UPDATES.name: 3}
    assert world.inputs.time_ms == 1_000


def test_a_journal_gives_its_events() -> None:
    """Claims give nothing; a batch gives all events of all its decisions, and the position holds the chain."""
    world = World()
    given = [list(world.inputs.read(record)) for record in world.records(ROUNDS_AT)]
    assert given == [[], OPENED[:2], [], [OPENED[2]]]
    at = world.inputs.position.journals[ROUNDS.name]
    assert (at.seq, at.claim) == (1, world.records(ROUNDS_AT)[2].offset)


def test_a_missing_plain_record_is_a_gap() -> None:
    """The log holds a record before this one: the host has to go back, and the position has not moved."""
    world = World()
    with pytest.raises(Gap) as raised:
        world.inputs.read(world.records(UPDATES_AT)[2])
    assert (raised.value.topic, raised.value.expected, raised.value.found) == (UPDATES.name, 0, 2)
    assert world.inputs.position.offsets == {}


def test_a_hole_that_is_real_is_stepped_over() -> None:
    """A marker of a transaction has an offset and is no record; only the log itself can tell it from a missing one."""
    world = World(ticks=0)
    world.log.writer("test").commit([Draft(topic=UPDATES.name, partition=PARTITION, value=encode(Tick()))])
    world.tick()
    first, second = world.records(UPDATES_AT)
    assert (first.offset, second.offset) == (0, 2)
    for record in (first, second):
        assert list(world.inputs.read(record)) == [record]
    assert world.inputs.position.offsets == {UPDATES.name: 3}


def test_what_was_deleted_is_lost_and_not_skipped() -> None:
    """Records below the beginning of a topic are gone: that is for the host to accept, or to end."""
    world = World()
    world.log.delete_records(UPDATES_AT, 2)
    with pytest.raises(OffsetLost):
        world.inputs.read(world.records(UPDATES_AT)[0])


def test_a_missing_claim_is_a_gap() -> None:
    """A claim carries nothing that ties it to the records before it, so the log itself is asked."""
    world = World()
    first, batch, claim, _ = world.records(ROUNDS_AT)
    world.inputs.read(first)
    with pytest.raises(Gap):
        world.inputs.read(claim)
    assert list(world.inputs.read(batch)) == OPENED[:2]


def test_a_broken_journal_with_nothing_missing_is_no_gap() -> None:
    """Law 4: what is off the chain stops the reader, which names the place."""
    world = World()
    broken = journalled(batch(JournalPosition(claim=9_999)), *ROUNDS_AT)
    world.log.append([Draft(topic=ROUNDS.name, partition=PARTITION, value=value) for value in (b"junk", broken)])
    *good, last = world.records(ROUNDS_AT)
    for record in good:
        world.inputs.read(record)
    assert world.inputs.journals[ROUNDS.name].strangers == 1
    with pytest.raises(JournalBroken, match="claim is 9999"):
        world.inputs.read(last)


@pytest.mark.parametrize("at", [UPDATES_AT, ROUNDS_AT], ids=lambda at: at.topic)
def test_what_could_not_be_decided_is_read_again(at: TopicPartition) -> None:
    """A record that is unread gives the same once more, for a plain topic and for a journal."""
    world = World()
    first, second, *_ = world.records(at)
    world.inputs.read(first)
    before = world.inputs.position
    given = list(world.inputs.read(second))
    world.inputs.unread(second)
    assert world.inputs.position == before
    assert list(world.inputs.read(second)) == given


def test_a_host_may_skip_what_the_log_does_not_hold() -> None:
    """Records before the beginning of a topic are gone; the position says so."""
    world = World()
    world.inputs.skip(UPDATES.name, 2)
    assert list(world.inputs.read(world.records(UPDATES_AT)[2])) == [world.records(UPDATES_AT)[2]]


def test_a_position_that_only_moves_is_written_in_time() -> None:
    """After an hour of log time, or so many inputs, so that a restart need not read all of them again."""
    world = World(ticks=1)
    assert not world.inputs.is_write_due()
    world.inputs.read(world.records(UPDATES_AT)[0])
    world.now_ms += WRITTEN_AFTER_MS
    world.tick()
    world.inputs.read(world.records(UPDATES_AT)[1])
    assert world.inputs.is_write_due()
    many = World(ticks=WRITTEN_AFTER_INPUTS)

    records = many.records(UPDATES_AT)
    for record in records[:-1]:
        many.inputs.read(record)
    assert not many.inputs.is_write_due()
    many.inputs.read(records[-1])
    assert many.inputs.is_write_due()
