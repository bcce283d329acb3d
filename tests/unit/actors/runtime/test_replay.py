"""Openings after a broker has crashed in a commit, and has forgotten to end it in some partitions."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Collection
from types import SimpleNamespace

import numpy as np
import pytest

from actors.runtime import actor as actor_module
from schemas.events import ModelPublished
from schemas.topics import PUBLISHED, ROUNDS
from streams import log as log_module
from streams.log import STANDSTILL_S, CommitUncertain, ReadersHeldBack, TopicPartition, scan
from streams.memory import MemoryWriter
from tests.worlds.builders import policy
from tests.worlds.federation import Federation, open_actor

ONES = np.ones(4, np.float32)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Federation:
    """A version a round, and a digest, which makes a snapshot, at every decision."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 1)
    return Federation(policy(aggregation={"updates_per_round": 1}, stop={"versions_max": 40}))


@pytest.fixture
def crash(world: Federation, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """In the next transaction over `touched` the broker crashes, and leaves the topics `forgotten` without a marker."""

    def crash(touched: Collection[str], *, forgotten: Collection[str], is_committed: bool = True) -> None:
        due = [{TopicPartition(topic, world.partition) for topic in touched}]

        def finish(writer: MemoryWriter) -> None:
            is_struck = due == [{*world.log._transactions[writer._name].first}]
            if is_struck:
                due.clear()
                world.log.forget(writer._name, [TopicPartition(topic, world.partition) for topic in forgotten])
            world.log._finish(writer._name, committed=is_committed or not is_struck)
            if is_struck and not is_committed:
                raise CommitUncertain("the broker has crashed")

        monkeypatch.setattr(MemoryWriter, "finish", finish)

    return crash


def _list_announced(world: Federation) -> list[str]:
    """The versions that subscribers see, in their order."""
    records = scan(world.log, TopicPartition(PUBLISHED.name, world.partition))
    return [json.loads(record.value or b"")["id"].partition("/")[2] for record in records]


def test_a_claim_that_stays_invisible_is_made_again(
    world: Federation, crash: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that was acknowledged and forgotten is awaited no longer than a transaction lasts; the next ends it."""
    times_s = itertools.count(step=STANDSTILL_S)
    monkeypatch.setattr(log_module, "time", SimpleNamespace(monotonic=lambda: next(times_s)))
    crash([ROUNDS.name], forgotten=[ROUNDS.name])
    with pytest.raises(ReadersHeldBack, match="rounds"):
        open_actor(world, "aggregator")
    world.start("aggregator")
    world.round_of({"a": ONES})
    assert _list_announced(world) == ["0", "1"]


@pytest.mark.parametrize("is_committed", [True, False], ids=["committed", "aborted"])
@pytest.mark.parametrize("forgotten", [[PUBLISHED.name], [ROUNDS.name], [ROUNDS.name, PUBLISHED.name]])
def test_each_version_is_announced_once_whatever_was_forgotten(
    world: Federation, crash: Callable[..., None], forgotten: list[str], is_committed: bool
) -> None:
    """Law 5: no announcement stands without its batch, none is missing and none comes twice, before or after."""
    crash([ROUNDS.name, PUBLISHED.name], forgotten=forgotten, is_committed=is_committed)
    with contextlib.nullcontext() if is_committed else pytest.raises(CommitUncertain):
        world.round_of({"a": ONES})
    # With a snapshot, if one was kept, and again with the one that this opening leaves behind.
    for _ in range(2):
        world.start("aggregator")
        world.settle()
    world.round_of({"b": ONES})
    published = [event.version for event in world.events(ROUNDS.name, ModelPublished)]
    assert [*map(int, _list_announced(world))] == published == [0, 1, 2]
