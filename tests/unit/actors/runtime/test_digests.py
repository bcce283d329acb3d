"""When a state becomes a snapshot: as soon as readers see what it rests on, whatever is open behind that."""

from __future__ import annotations

import numpy as np
import pytest

from actors.runtime import actor as actor_module
from actors.runtime import digests
from schemas.canonical import decode
from schemas.certificates import parse_certified
from schemas.journal import Snapshot
from schemas.topics import PUBLISHED, ROUNDS, SNAPSHOTS
from streams.log import Draft, TopicPartition, scan
from tests.worlds.builders import policy
from tests.worlds.federation import Federation


def test_open_transactions_of_others_put_no_snapshot_off_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger who always has one open keeps readers a little behind; a snapshot needs what came before it alone."""
    monkeypatch.setattr(actor_module, "DIGEST_EVERY", 1)
    waits: list[float] = []
    monkeypatch.setattr(digests.time, "sleep", waits.append)
    world = Federation(policy(aggregation={"updates_per_round": 1}, stop={"versions_max": 40}))
    at, ends, writers = TopicPartition(PUBLISHED.name, world.partition), [], []
    for number in range(6):
        writer = world.log.writer(f"stranger {number}")
        writer.begin()
        writer.put([Draft(**at._asdict(), value=b"junk")])
        writers.append(writer)
        world.device(f"d{number}").check_in()
        world.feed("selector")
        world.device(f"d{number}").submit(np.ones(4, np.float32), world.rules)
        world.feed("aggregator")
        ends.append(world.log.bounds(TopicPartition(ROUNDS.name, world.partition)).end)
        # The one before ends only now, so that readers never see the newest commit.
        if number:
            writers[number - 1].finish()
    world.actors["aggregator"].work()
    manifests = scan(world.log, TopicPartition(SNAPSHOTS.name, world.partition))
    newest = [record.value for record in manifests if record.key == b"aggregator"][-1]
    assert decode(parse_certified(newest or b"").payload, Snapshot).offset >= ends[2]
    assert len(waits) <= digests.SEEN_ASKS
