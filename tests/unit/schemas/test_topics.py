"""Where things live: the rule that names partitions can never change, because clients and old logs follow it."""

from __future__ import annotations

from schemas.topics import BODIES, CATALOGUE, JOURNALS, SHARDS, body_place
from tests.places import PARTITIONS, home_of

KNOWN = {
    "digits": 5,
    "task": 4,
    "ingest": 7,
    "a": 2,
    "population": 5,
    "population.task": 5,
}


def test_a_name_lives_where_it_always_lived() -> None:
    """Recorded once: another hash would lose every task of every log."""
    assert {name: home_of(name) for name in KNOWN} == KNOWN


def test_every_topic_takes_the_time_of_its_appends() -> None:
    """Law 10: deadlines compare append time, on every topic."""
    assert {topic.config["message.timestamp.type"] for topic in CATALOGUE} == {"LogAppendTime"}


def test_journals_are_kept_for_ever() -> None:
    """History is never deleted and never compacted."""
    assert {(topic.config["retention.ms"], topic.config["cleanup.policy"]) for topic in JOURNALS} == {("-1", "delete")}


def test_a_task_without_shards_has_its_bodies_beside_it() -> None:
    """One worker has everything of a task."""
    assert {body_place("digits", f"d{number}", shards=1, partitions=PARTITIONS) for number in range(50)} == {
        (BODIES.name, KNOWN["digits"])
    }


def test_shards_spread_the_bodies_of_a_task() -> None:
    """As many partitions as shards, in a topic of their own, and each device in one of them."""
    places = [body_place("digits", f"d{number}", shards=3, partitions=PARTITIONS) for number in range(200)]
    assert {topic for topic, _ in places} == {SHARDS.name}
    assert {partition for _, partition in places} == {(KNOWN["digits"] + shard) % PARTITIONS for shard in range(3)}
    assert places == [body_place("digits", f"d{number}", shards=3, partitions=PARTITIONS) for number in range(200)]
