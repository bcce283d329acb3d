"""Holes: real ones and missed records are told apart, and a flood of them costs one reader."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import pytest

from schemas.topics import CATALOGUE, CHECKINS, UPDATES
from streams.holes import Holes
from streams.log import Bounds, Draft, LogUnavailable, OffsetLost, Reader, TopicPartition
from streams.memory import MemoryLog

AT, OTHER = TopicPartition(CHECKINS.name, 3), TopicPartition(UPDATES.name, 3)


class CountingLog(MemoryLog):
    """Counts its readers, and may be away."""

    def __init__(self) -> None:
        super().__init__(CATALOGUE)
        self.readers, self.is_away = 0, False

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:  # type: ignore[override]
        """One more."""
        self.readers += 1
        return super().reader(positions)

    def bounds(self, at: TopicPartition) -> Bounds:
        """As far as it answers."""
        if self.is_away:
            raise LogUnavailable("away")
        return super().bounds(at)

    def write(self, at: TopicPartition = AT) -> int:
        """A plain record."""
        [offset] = self.append([draft(at)])
        return offset

    def abort(self, at: TopicPartition = AT) -> None:
        """A hole of two offsets: a record that was aborted, and the marker."""
        writer = self.writer("stranger")
        writer.begin()
        writer.put([draft(at)])
        self.writer("stranger")


def draft(at: TopicPartition) -> Draft:
    """Any record."""
    return Draft(topic=at.topic, partition=at.partition, value=b"x")


@pytest.fixture
def log() -> CountingLog:
    """An empty log."""
    return CountingLog()


def test_a_flood_of_holes_costs_one_reader(log: CountingLog) -> None:
    """A stranger pays a transaction a hole; a new connection for each would cost us a hundred times that."""
    holes, expected = Holes(log), log.write() + 1
    for _ in range(1_000):
        log.abort()
        found = log.write()
        assert holes.find_first(AT, expected, end=found) == found
        expected = found + 1
    assert log.readers == 1


def test_what_was_read_beyond_a_hole_answers_for_the_next(log: CountingLog) -> None:
    """Holes that lie behind each other already are compared in one go, backwards too."""
    holes, found = Holes(log), []
    for _ in range(100):
        log.abort()
        found.append(log.write())
    for before, after in [*pairwise(found), *reversed([*pairwise(found)])]:
        assert holes.find_first(AT, before + 1, end=after) == after
        assert holes.find_first(AT, before, end=after) == before
    assert log.readers == 1


def test_a_record_in_between_is_found(log: CountingLog) -> None:
    """Wherever it stands, and however often one asks; each partition for itself."""
    holes = Holes(log)
    offsets = [log.write() for _ in range(1_200)]
    log.abort(OTHER)
    last = log.write(OTHER)
    for start in (7, 1_100, 7, 600, 1_199):
        assert holes.find_first(AT, start, end=offsets[-1] + 1) == start
        assert holes.find_first(OTHER, 0, end=last) == last
    assert log.readers == 2


def test_a_deleted_beginning_is_told_and_forgotten(log: CountingLog) -> None:
    """What is lost says so, and the next question is asked with a new reader."""
    holes = Holes(log)
    for _ in range(10):
        log.write()
    log.delete_records(AT, 6)
    with pytest.raises(OffsetLost):
        holes.find_first(AT, 2, end=9)
    assert holes.find_first(AT, 6, end=9) == 6


def test_a_broker_that_is_away_is_told(log: CountingLog) -> None:
    """Nobody waits here without an end: whoever asks decides how to wait, and asks again."""
    holes = Holes(log)
    log.abort()
    log.is_away = True
    with pytest.raises(LogUnavailable):
        holes.find_first(AT, 0, end=5)
    log.is_away = False
    for _ in range(5):
        log.write()
    assert holes.find_first(AT, 0, end=5) == 2
    holes.close()


def test_what_is_not_decided_yet_is_waited_for(log: CountingLog) -> None:
    """An open transaction may still become a record: it is no hole before it has ended."""
    holes, writer = Holes(log), log.writer("late")
    writer.begin()
    writer.put([draft(AT)])
    log.write()
    looks = iter([None, writer.finish])

    def look(at: TopicPartition) -> Bounds:
        if (step := next(looks, None)) is not None:
            step()
        return MemoryLog.bounds(log, at)

    log.bounds = look  # type: ignore[method-assign]
    assert holes.find_first(AT, 0, end=1) == 0
