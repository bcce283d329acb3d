"""The newest records of a journal say where it stands and whether they follow one another, wherever one begins."""

from __future__ import annotations

import msgspec
import pytest

from ops.doctor.facts import Tail
from ops.doctor.tails import find_claim, follow_tail
from schemas.events import DefectFound, RoundOpened
from schemas.journal import GENESIS
from schemas.topics import ROUNDS
from streams.log import Record, TopicPartition, scan
from streams.memory import MemoryLog
from tests.worlds.builders import trust
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, memory_log

AT = TopicPartition(ROUNDS.name, PLACE)
OPENED = RoundOpened(task=TASK, round=0)


@pytest.fixture
def log() -> MemoryLog:
    """A journal of two claims, with batches under each, and a zombie's."""
    log = memory_log()
    journal = Journal(log, AT.topic)
    first = journal.chain.at.claim
    for _ in range(3):
        journal.batch(OPENED)
    journal.claim()
    journal.batch(OPENED, claim=first)
    for _ in range(3):
        journal.batch(OPENED)
    return log


def look(log: MemoryLog, start: int) -> Tail:
    """The tail from this offset on, as one who reads it from a cluster."""
    records = [*scan(log, AT, start=start)]
    offset = find_claim(records)
    claim = None if offset is None else next(scan(log, AT, start=offset, end=offset + 1))
    return follow_tail(AT, records, claim=claim, trust=trust())


def test_it_is_whole_from_wherever_one_begins(log: MemoryLog) -> None:
    """At a claim, in the midst of batches, before a zombie's or behind it: nothing is wrong."""
    end = log.bounds(AT).end
    tails = [look(log, start) for start in range(end)]
    assert [tail.fault for tail in tails] == [""] * end
    # The last offset is a marker: nothing stands there.
    assert {tail.position.get("updates") for tail in tails[:-1]} == {1}


def test_a_break_is_found_with_its_place(log: MemoryLog) -> None:
    """A batch that does not follow the one before it."""
    journal = Journal(log, AT.topic)
    start = journal.batch(OPENED)
    journal.chain.at = msgspec.structs.replace(journal.chain.at, head=GENESIS)
    wrong = journal.batch(OPENED)
    found = look(log, start)
    assert (found.offset, "is not what its writer wrote" in found.fault) == (wrong, True)


def test_strangers_and_defects_are_counted(log: MemoryLog) -> None:
    """What somebody else wrote there, and inputs on which our own code failed."""
    journal = Journal(log, AT.topic)
    start = journal.batch(OPENED)
    append(log, AT.topic, b"junk")
    journal.batch(DefectFound(topic="updates", first_offset=1, last_offset=1, count=1, number=0, error="X"))
    found = look(log, start)
    assert (found.strangers, found.defects, found.fault) == (1, 1, "")


def test_a_journal_without_a_claim_says_nothing() -> None:
    """Before the first claim, and where a claim cannot be read any more, there is nothing to follow."""
    junk = Record(topic=AT.topic, partition=AT.partition, offset=3, time_ms=1, key=None, value=b"junk")
    assert follow_tail(AT, [junk], claim=None, trust=trust()) == Tail(at=AT)
    assert find_claim([junk]) is None
