"""`published` against the journal: each version once, as the journal has it, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from ops.audit import announcements
from schemas.published import parse_statement
from schemas.topics import PUBLISHED, ROUNDS
from streams.log import TopicPartition, scan
from tests.worlds.builders import policy
from tests.worlds.federation import Federation


@pytest.fixture
def world() -> Federation:
    """Two versions besides the operator's own."""
    world = Federation(policy())
    for turn in range(2):
        world.round_of({name + str(turn): np.ones(4, np.float32) for name in "abc"})
    return world


def statements(world: Federation) -> Iterator[dict[str, object]]:
    """What is announced, without signatures."""
    for record in scan(world.log, TopicPartition(PUBLISHED.name, world.partition)):
        yield parse_statement(record.value or b"")


def compare(world: Federation, expected: dict[str, dict[str, object]], *, seq: int = 10_000) -> list[str]:
    """The findings as text."""
    seqs = {ROUNDS.name: seq}
    return [str(each) for each in announcements.compare(world.log, world.partition, expected=expected, seqs=seqs)]


def test_the_newest_announced_version_is_known(world: Federation) -> None:
    """What retention may delete depends on how many versions came after."""
    assert announcements.find_newest_versions(world.log, world.partition) == {world.task: 2}


def test_what_the_journal_gives_is_announced_once(world: Federation) -> None:
    """A version that is missing is named, and so is one that the journal does not hold."""
    expected = {str(each["id"]): each for each in statements(world)}
    assert compare(world, expected) == []
    last = f"{world.task}/2"
    [*_, record] = scan(world.log, TopicPartition(PUBLISHED.name, world.partition))
    assert compare(world, {name: each for name, each in expected.items() if name != last}) == [
        f"{record.place}: announces what the journal does not hold"
    ]
    more = {**expected, f"{world.task}/9": {**expected[last], "id": f"{world.task}/9"}}
    assert compare(world, more) == [f"published[{world.partition}]: task {world.task}: {world.task}/9 is not announced"]


def test_another_content_is_no_announcement(world: Federation) -> None:
    """The same id with other data is not what the journal gives."""
    expected = {str(each["id"]): each for each in statements(world)}
    changed = json.loads(json.dumps(expected[f"{world.task}/1"]))
    changed["data"]["round"] = 7
    assert len(compare(world, {**expected, f"{world.task}/1": changed})) == 1


def test_what_came_later_is_left_for_the_next_check(world: Federation) -> None:
    """A version that was announced after the journal was read is no finding."""
    assert compare(world, {}, seq=-1) == []
