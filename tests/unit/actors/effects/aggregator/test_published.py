"""`published` after a crash: what is missing of it is written once, whatever the aggregator starts from."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from actors.effects.aggregator.published import CLOCKS_DIFFER_MS_MAX
from actors.runtime import actor as actor_module
from schemas.events import ModelPublished
from schemas.topics import PUBLISHED, ROUNDS
from streams.log import Record, TopicPartition, scan
from tests.worlds.builders import policy
from tests.worlds.federation import Federation

ONES = np.ones(4, np.float32)


def _records(world: Federation, topic: str) -> list[Record]:
    return [*scan(world.log, TopicPartition(topic, world.partition))]


def test_published_is_read_from_about_the_snapshot_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an opening finds missing in `published` is written once, and what lies far before is not read for it."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 4)
    world = Federation(policy())
    for _ in range(5):
        world.round_of(dict.fromkeys("abc", ONES))
    world.now_ms += 3 * CLOCKS_DIFFER_MS_MAX
    old = len(_records(world, PUBLISHED.name))
    world.round_of(dict.fromkeys("abc", ONES))
    effects: Any = world.start("aggregator")._effects
    honest = effects.follow_up
    effects.follow_up = lambda *given, **named: dataclasses.replace(honest(*given, **named), extra_records=())
    world.round_of(dict.fromkeys("abc", ONES))
    versions = [event.version for event in world.events(ROUNDS.name, ModelPublished)]
    assert len(_records(world, PUBLISHED.name)) < len(versions)
    starts, reader, at = list[int](), world.log.reader, TopicPartition(PUBLISHED.name, world.partition)

    def watched(positions: Any) -> Any:
        starts.extend(positions[at] for _ in range(at in positions))
        return reader(positions)

    monkeypatch.setattr(world.log, "reader", watched)
    for _ in range(2):
        assert world.start("aggregator").opened.snapshot is not None
    assert min(starts) >= old
    told = [json.loads(record.value or b"")["id"] for record in _records(world, PUBLISHED.name)]
    assert told == [f"{world.task}/{version}" for version in versions]
