"""A follower feeds projections: from what the log still holds, each from its own position, each record once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ops.history.following import Follower
from ops.history.projections import TaskViews
from schemas.events import VersionEvaluated
from streams.log import Record, TopicPartition
from streams.memory import MemoryLog
from tests.worlds.builders import task_paused
from tests.worlds.ops_journal import PLACE, TASK, append, created, memory_log

EVALUATED = VersionEvaluated(task=TASK, version=0, metrics={"loss": 1.0}, samples=9, cohort="")


class Offsets:
    """A projection that keeps the place of each record, and starts at stored positions."""

    def __init__(self, *topics: str, positions: Mapping[TopicPartition, int] | None = None) -> None:
        self.topics: Sequence[str] = topics
        self.positions = dict(positions or {})
        self.seen: list[tuple[str, int]] = []

    def apply(self, record: Record) -> None:
        """Keep it."""
        self.seen.append((record.topic, record.offset))
        self.positions[record.at] = record.offset + 1


def task_log() -> MemoryLog:
    """Two records in `tasks` and one in `evaluations`."""
    log = memory_log()
    append(log, "tasks", created())
    append(log, "evaluations", EVALUATED)
    append(log, "tasks", task_paused())
    return log


def test_following_starts_at_what_the_log_still_holds() -> None:
    """Plain topics may have lost their first records to retention."""
    log = memory_log()
    append(log, "tasks", b"old")
    log.delete_records(TopicPartition("tasks", PLACE), 1)
    append(log, "tasks", created())
    views = TaskViews()
    with Follower(log, views, partitions=[PLACE]) as follower:
        follower.catch_up()
    assert views.view(TASK).created == created()


def test_each_projection_gets_its_own_topics() -> None:
    """One reader serves several projections, and none sees a topic that it did not ask for."""
    tasks, both = Offsets("tasks"), Offsets("tasks", "evaluations")
    with Follower(task_log(), tasks, both, partitions=[PLACE]) as follower:
        follower.catch_up()
    assert tasks.seen == [("tasks", 0), ("tasks", 1)]
    assert sorted(both.seen) == [("evaluations", 0), ("tasks", 0), ("tasks", 1)]


def test_a_projection_resumes_at_its_own_position() -> None:
    """A projection that stored its rows and position together gets each record once, whatever the others need."""
    log = task_log()
    new, stored = Offsets("tasks"), Offsets("tasks", positions={TopicPartition("tasks", PLACE): 1})
    with Follower(log, new, stored, partitions=[PLACE]) as follower:
        follower.catch_up()
        append(log, "tasks", task_paused())
        follower.poll(0)
    assert [offset for _, offset in new.seen] == [0, 1, 2]
    assert [offset for _, offset in stored.seen] == [1, 2]


def test_the_views_know_how_far_they_have_read() -> None:
    """Read models say up to where they are."""
    views = TaskViews(("tasks", "evaluations"))
    with Follower(task_log(), views, partitions=[PLACE]) as follower:
        follower.catch_up()
    assert views.positions == {TopicPartition("tasks", PLACE): 2, TopicPartition("evaluations", PLACE): 1}
