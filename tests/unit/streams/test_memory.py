"""The log in memory where a broker has forgotten to end a transaction; all else is in the contract of both logs."""

from __future__ import annotations

import pytest

from schemas.topics import CATALOGUE, PUBLISHED, ROUNDS
from streams.log import Draft, TopicPartition, scan
from streams.memory import MemoryLog

HERE, BESIDE = TopicPartition(ROUNDS.name, 1), TopicPartition(PUBLISHED.name, 1)


def _write_half(log: MemoryLog) -> None:
    """A transaction over two partitions that is known as committed, with a marker in one of them."""
    writer = log.writer("w")
    writer.begin()
    writer.put([Draft(**at._asdict(), value=b"first") for at in (HERE, BESIDE)])
    log.forget("w", [BESIDE])
    writer.finish()


def _read(log: MemoryLog, at: TopicPartition) -> list[bytes | None]:
    return [record.value for record in scan(log, at)]


def test_a_forgotten_partition_holds_readers_back() -> None:
    """As on Kafka: what was marked can be read, and the other partition not from its first open record on."""
    log = MemoryLog(CATALOGUE)
    _write_half(log)
    log.append([Draft(**BESIDE._asdict(), value=b"a stranger's")])
    assert _read(log, HERE) == [b"first"]
    assert (_read(log, BESIDE), log.bounds(BESIDE).end, log.find_written_end(BESIDE)) == ([], 0, 2)


@pytest.mark.parametrize("is_committed", [True, False])
def test_the_next_marker_of_its_writer_ends_it(is_committed: bool) -> None:
    """As on Kafka: one marker ends all that a writer has open in a partition, and in the same way."""
    log = MemoryLog(CATALOGUE)
    _write_half(log)
    writer = log.writer("w")
    assert _read(log, BESIDE) == []
    writer.begin()
    writer.put([Draft(**BESIDE._asdict(), value=b"second")])
    log._finish("w", committed=is_committed)
    assert _read(log, BESIDE) == ([b"first", b"second"] if is_committed else [])


def test_a_writer_settles_what_was_forgotten() -> None:
    """The next writer aborts it before it writes anything, in the partitions that it names and in no other."""
    log = MemoryLog(CATALOGUE)
    _write_half(log)
    log.writer("w", settles=[HERE])
    assert log.bounds(BESIDE).end == 0
    log.writer("w", settles=[BESIDE])
    assert (_read(log, BESIDE), log.bounds(BESIDE).end) == ([], log.find_written_end(BESIDE))
    assert _read(log, HERE) == [b"first"]
