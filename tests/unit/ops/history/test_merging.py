"""Records of many partitions in one sequence, by append time."""

from __future__ import annotations

import pytest

from ops.history.merging import MergedReader
from schemas.events import Tick
from streams.log import TopicPartition
from tests.worlds.ops_journal import PLACE, append, memory_log


def test_records_come_in_the_order_of_time() -> None:
    """Records of several topics come by their append time, those of one partition in the log's order."""
    log = memory_log()
    places = [TopicPartition(topic, PLACE) for topic in ("tasks", "evaluations")]
    for topic in ("tasks", "evaluations", "tasks", "tasks", "evaluations"):
        append(log, topic, Tick())
    reader = MergedReader(log, places)
    assert [each.time_ms for each in reader.read_past()] == [1_000, 2_000, 3_000, 4_000, 5_000]
    append(log, "tasks", Tick())
    assert [each.time_ms for each in reader.poll(0)] == [6_000]


@pytest.mark.parametrize(("start", "expected"), [(0, [1, 2]), (2, [2]), (9, [])])
def test_reading_begins_at_the_given_offset_within_what_is_held(start: int, expected: list[int]) -> None:
    """An offset below what retention left means the first that is held; one past the end means the end."""
    log = memory_log()
    place = TopicPartition("tasks", PLACE)
    for _ in range(3):
        append(log, "tasks", Tick())
    log.delete_records(place, 1)
    assert [each.offset for each in MergedReader(log, [place], start).read_past()] == expected
