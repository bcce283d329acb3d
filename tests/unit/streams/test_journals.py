"""One reader of journals: follows the chain, skips zombies, takes a sealed resume, and names the place of a break."""

from __future__ import annotations

import msgspec
import pytest

from schemas.events import RoundOpened
from schemas.journal import GENESIS, Batch, Position
from schemas.topics import ROUNDS
from streams.journals import JournalBroken, JournalReader, read_decisions
from streams.log import Place, TopicPartition
from streams.memory import MemoryLog
from tests.worlds.builders import trust
from tests.worlds.ops_journal import PLACE, TASK, Journal, append, journalled, memory_log

AT = TopicPartition(ROUNDS.name, PLACE)
OPENED = RoundOpened(task=TASK, round=0)


@pytest.fixture
def log() -> MemoryLog:
    """An empty log."""
    return memory_log()


@pytest.fixture
def journal(log: MemoryLog) -> Journal:
    """The writer of a journal that holds its claim so far."""
    return Journal(log, AT.topic)


def read(log: MemoryLog, reader: JournalReader | None = None) -> list[int]:
    """The offsets of the batches that count."""
    reader = reader or JournalReader(AT, trust=trust())
    return [record.offset for record, batch in reader.read(log) if batch is not None]


def error_of(log: MemoryLog) -> JournalBroken:
    """What a reader says of a broken journal."""
    with pytest.raises(JournalBroken) as caught:
        read(log)
    return caught.value


def test_batches_come_in_order_with_their_place(log: MemoryLog, journal: Journal) -> None:
    """Each decision comes with its record and the position after it."""
    offsets = [journal.batch(OPENED), journal.batch(OPENED)]
    assert read(log) == offsets
    found = [*read_decisions(log, AT, trust=trust())]
    assert [(record.place, position.seq) for record, _, position in found] == [
        (Place(AT, offset), seq) for seq, offset in enumerate(offsets)
    ]
    assert found[-1][2] == journal.chain.at


def test_a_zombies_batch_is_skipped_and_counted(log: MemoryLog, journal: Journal) -> None:
    """A batch under a superseded claim decides nothing."""
    claim = journal.chain.at.claim
    journal.claim()
    journal.batch(OPENED, claim=claim)
    last = journal.batch(OPENED)
    reader = JournalReader(AT, trust=trust())
    assert read(log, reader) == [last]
    assert reader.zombies == 1


def test_a_break_is_named_with_place_and_suspects(log: MemoryLog, journal: Journal) -> None:
    """A batch vouches for the one before it, so both are named."""
    first = journal.batch(OPENED)
    journal.chain.at = msgspec.structs.replace(journal.chain.at, head=GENESIS)
    wrong = journal.write(batch_after(journal), follow=False)
    error = error_of(log)
    assert error.place == Place(AT, wrong)
    assert str(error).startswith(f"{AT}@{wrong}: this record or the one at offset {first} is not what its writer wrote")


def batch_after(journal: Journal) -> Batch:
    """The batch that follows the chain as this writer sees it."""
    at = journal.chain.at
    return Batch(
        seq=at.seq + 1, claim=at.claim, prev=at.head, nonce=bytes(16), time_ms=5, position=Position(), decisions=()
    )


def test_strangers_are_passed_over_and_counted(log: MemoryLog, journal: Journal) -> None:
    """Junk decides nothing, nor a record that was given a key: a signature covers the value alone."""
    append(log, AT.topic, b"junk")
    append(log, AT.topic, journalled(batch_after(journal), *AT), key=b"k")
    last = journal.batch(OPENED)
    reader = JournalReader(AT, trust=trust())
    assert read(log, reader) == [last]
    assert reader.strangers == 2


def test_a_journal_without_its_beginning_is_no_journal(log: MemoryLog, journal: Journal) -> None:
    """What was deleted cannot be folded, so nothing behind it is."""
    journal.batch(OPENED)
    log.delete_records(AT, 1)
    assert str(error_of(log)) == f"{AT}@0: the journal begins at offset 1: what stood before is gone"


def test_a_reader_goes_on_from_a_position(log: MemoryLog, journal: Journal) -> None:
    """Records may come from elsewhere, one by one, from where another reader has stopped."""
    journal.batch(OPENED)
    stopped = journal.chain.at
    last = journal.batch(OPENED)
    records = {record.offset: record for record, _ in JournalReader(AT, trust=trust()).read(log)}
    reader = JournalReader(AT, trust=trust(), position=stopped)
    assert reader.follow(records[last]) is not None
    assert reader.position == journal.chain.at


def test_reading_ends_where_it_is_asked_to(log: MemoryLog, journal: Journal) -> None:
    """The end is exclusive: a record that stands at it is not read."""
    first, second = journal.batch(OPENED), journal.batch(OPENED)
    found = [record.offset for record, _ in JournalReader(AT, trust=trust()).read(log, end=second)]
    assert found[-1] == first
