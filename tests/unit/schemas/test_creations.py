"""Which creation of a task counts: the first of its name, for every reader alike."""

from __future__ import annotations

from schemas.canonical import encode
from schemas.creations import collect_creations, find_creation, parse_creation, parse_task_event
from schemas.events import TaskPaused
from tests.worlds.ops_journal import created

VALUES = [
    encode(TaskPaused(task="digits")),
    b"junk",
    encode(created("digits", participations_before=1)),
    None,
    encode(created("digits", participations_before=2)),
    encode(created("words", participations_before=3)),
]


def test_the_first_creation_of_a_name_counts() -> None:
    """A second creation, junk and tombstones change nothing."""
    assert {name: each.participations_before for name, each in collect_creations(VALUES).items()} == {
        "digits": 1,
        "words": 3,
    }


def test_one_task_is_found_without_reading_on() -> None:
    """The search ends at the creation, and finds nothing for an unknown name."""
    values = iter(VALUES)
    assert find_creation(values, "digits") == created("digits", participations_before=1)
    assert next(values) is None
    assert find_creation(VALUES, "nowhere") is None


def test_other_events_are_no_creations() -> None:
    """A pause is an event of the task and creates nothing."""
    assert parse_task_event(VALUES[0]) == TaskPaused(task="digits")
    assert parse_creation(VALUES[0]) is None
    assert parse_task_event(b"junk") is None
