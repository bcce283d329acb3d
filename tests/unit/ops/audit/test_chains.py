"""The chain of a journal: a record that was changed is found, and the place is named."""

from __future__ import annotations

import msgspec
import pytest

from ops.audit.chains import verify_chain
from schemas.events import RoundOpened
from schemas.journal import Batch, open_record
from streams.log import Draft, TopicPartition, scan
from streams.memory import MemoryLog
from tests.worlds.builders import trust
from tests.worlds.ops_journal import PLACE, TASK, Journal, journalled, memory_log

ROUNDS = TopicPartition("rounds", PLACE)


def written() -> tuple[MemoryLog, list[int]]:
    """A journal of two claims, six batches and one zombie's; the log, and the offsets of the batches."""
    log = memory_log()
    journal = Journal(log, "rounds")
    first = journal.chain.at.claim
    offsets = [journal.batch(RoundOpened(task=TASK, round=n)) for n in range(3)]
    journal.claim()
    journal.batch(RoundOpened(task=TASK, round=9), claim=first)
    return log, offsets + [journal.batch(RoundOpened(task=TASK, round=n)) for n in range(3, 6)]


def copied(log: MemoryLog, changed: dict[int, bytes]) -> MemoryLog:
    """The same journal record by record, at the same offsets, some values replaced."""
    copy = memory_log()
    for record in scan(log, ROUNDS):
        value = changed.get(record.offset, record.value)
        copy.writer("copy").commit([Draft(topic="rounds", partition=PLACE, value=value)])
    return copy


def test_a_whole_chain_is_counted() -> None:
    """Claims, batches and zombies are told apart, and nothing is wrong."""
    report = verify_chain(written()[0], ROUNDS, trust=trust())
    assert (report.fault, report.claims, report.batches, report.zombies, report.seq) == (None, 2, 6, 1, 5)


def test_an_unchanged_copy_verifies() -> None:
    """The chain knows offsets and bytes alone, so an exact copy is as good as the journal."""
    assert verify_chain(copied(written()[0], {}), ROUNDS, trust=trust()).fault is None


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.7, 0.98])
def test_one_flipped_byte_is_found_at_its_record_or_the_next(which: int, place: float) -> None:
    """A changed byte makes that record a stranger's, and the next one of its writer does not follow."""
    log, offsets = written()
    values = {record.offset: record.value or b"" for record in scan(log, ROUNDS)}
    whole = values[offsets[which]]
    at = int(place * len(whole))
    report = verify_chain(
        copied(log, {offsets[which]: whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]}), ROUNDS, trust=trust()
    )
    later = [offset for offset in values if offset > offsets[which]]
    # A zombie's record carries no promise about its predecessor, so the next one of the chain tells.
    assert report.offset in later[:3]
    assert "is not what its writer wrote, or one between them is gone" in (report.fault or "")


def test_both_records_that_may_be_to_blame_are_named() -> None:
    """The next batch shows that a digest does not fit, and cannot say whose: the message names the two."""
    log, offsets = written()
    changed = {}
    for which in (0, 2):
        batch = open_record(next(scan(log, ROUNDS, start=offsets[which])).value or b"")
        assert isinstance(batch, Batch)
        changed[which] = journalled(msgspec.structs.replace(batch, time_ms=batch.time_ms + 1), *ROUNDS)
    first = verify_chain(copied(log, {offsets[0]: changed[0]}), ROUNDS, trust=trust())
    assert first.offset == offsets[1]
    assert f"this record or the one at offset {offsets[0]} is not what its writer wrote" in (first.fault or "")
    # A claim and a zombie's batch came in between; the claim is under the same digest.
    third = verify_chain(copied(log, {offsets[2]: changed[2]}), ROUNDS, trust=trust())
    assert third.offset == offsets[3]
    assert f"this record or one from offset {offsets[2]} on is not what" in (third.fault or "")


def test_a_journal_without_its_beginning_is_not_whole() -> None:
    """History is kept for ever: a first record that is gone is a fault, not a start."""
    log, offsets = written()
    log.delete_records(ROUNDS, offsets[1])
    report = verify_chain(log, ROUNDS, trust=trust())
    assert report.offset == 0
    assert "begins at offset" in (report.fault or "")
