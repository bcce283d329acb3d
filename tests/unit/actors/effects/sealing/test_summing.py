"""Shard workers of a sealed task: what they store opens for their aggregator alone, and changes no bit of a sum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from actors.effects.sealing.epoch_keys import EpochKeyMissing, EpochKeys, EpochKeysUnusable
from actors.effects.sealing.summing import Summed, open_sum, seal_sum
from actors.effects.shard.worker import Shard
from ops.virtual.server import list_unread
from schemas.canonical import decode
from schemas.events import BodyMeasured, ModelPublished, Partial, PartialStored, SumStored, UpdateAdmitted
from schemas.policy.metrics import MetricSums
from schemas.tensors import BodyError
from schemas.topics import PARTIALS, ROUNDS, SHARDS, UPDATES
from streams.bodies import BodyReader
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.places import PARTITIONS
from tests.worlds.builders import lease_id, task_created, update_admitted
from tests.worlds.sealing.federation import SealedFederation, sealed_policy

NAMES = "abc"
ONES = np.ones(4, np.float32)


def _world(folder: Path, shards: int = 4) -> SealedFederation:
    rules = sealed_policy(evaluation={"report": ["loss"]})
    return SealedFederation(replace(rules, shards=shards) if shards > 1 else rules, folder)


def _worker(world: SealedFederation) -> Shard:
    return Shard(world.log, world.key("shard"), range(PARTITIONS))


def _work(worker: Shard) -> None:
    while worker.step(0.0):
        pass


def _submit(world: SealedFederation) -> None:
    world.check_in(*NAMES)
    for number, name in enumerate(NAMES):
        world.submit(name, ONES * (number + 1), metrics=(number + 1,), inline=False)


def _run(world: SealedFederation, worker: Shard | None) -> list[Partial]:
    """A round whose sums are there before the aggregator asks, where somebody works; what was told."""
    _submit(world)
    for _ in range(2) if worker else ():
        _work(worker)
        actor = world.actors["aggregator"]
        actor.handle([*list_unread(actor, world.log, UPDATES.name)])
    world.settle()
    records = scan(world.log, TopicPartition(PARTIALS.name, world.partition))
    return [decode(record.value or b"", Partial) for record in records]  # type: ignore[arg-type]


def test_shards_change_no_bit_of_a_sealed_sum(tmp_path: Path) -> None:
    """Law 6: sums, metrics and models are those of a task without shards, and those without a worker."""
    found = []
    for number, (shards, works) in enumerate([(1, False), (4, False), (4, True)]):
        world = _world(tmp_path / str(number), shards)
        partials = _run(world, _worker(world) if works else None)
        assert any(isinstance(partial, PartialStored) for partial in partials) == works
        [stored] = world.events(ROUNDS.name, SumStored)
        found.append((stored.sum_sha256, stored.metrics, world.events(ROUNDS.name, ModelPublished)[-1].model.sha256))
        assert not check(world.log, world.partition, settled=True, sums=world.epoch_keys)
    assert found[0] == found[1] == found[2]
    assert found[0][1] == MetricSums(sums=(6 * 7,), samples=21)


def test_a_stored_sum_is_sealed_and_the_aggregator_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sum of a single member is its update: readers of `shards` see none, and the aggregator need not recompute."""
    opened: list[bytes] = []

    def open_and_tell(summed: Summed, data: bytes, *, keys: EpochKeys) -> object:
        total, metrics = open_sum(summed, data, keys=keys)
        opened.append(total)
        return total, metrics

    monkeypatch.setattr("actors.effects.aggregator.round_sums.open_sum", open_and_tell)
    world = _world(tmp_path)
    partials = _run(world, _worker(world))
    assert len(opened) == len({partial.body.partition for partial in partials if isinstance(partial, PartialStored)})
    for stored in [partial for partial in partials if isinstance(partial, PartialStored)]:
        data = BodyReader(world.log, SHARDS.name, stored.body.partition).fetch(stored.body)
        assert isinstance(data, bytes)
        assert not any(total[:8] in data for total in opened)
    measured = [partial for partial in partials if isinstance(partial, BodyMeasured)]
    assert {partial.update for partial in measured} == {
        event.update for event in world.events(ROUNDS.name, UpdateAdmitted)
    }


def test_a_worker_without_the_key_stores_nothing(tmp_path: Path) -> None:
    """A worker whose folder is another says so, and makes nothing wrong: the aggregator measures and adds itself."""
    world = _world(tmp_path / "keys")
    worker = Shard(world.log, replace(world.key("shard"), epoch_keys=str(tmp_path / "none")), range(PARTITIONS))
    with pytest.raises(EpochKeysUnusable, match="never held the key of epoch 0"):
        _run(world, worker)
    world.settle()
    assert len(world.events(ROUNDS.name, SumStored)) == 1


def test_a_sum_is_of_its_members_and_its_round_alone(tmp_path: Path) -> None:
    """A sum that is moved to other members, another round or task is none."""
    created, keys = task_created(sealed_policy()), EpochKeys(tmp_path / "keys")
    for epoch in (0, 1):
        keys.make(created, epoch)
    members = [update_admitted(name, update=lease_id(name), epoch=number) for number, name in enumerate("ab")]
    summed = Summed(created=created, round_id=3, members=members)
    metrics = MetricSums(sums=(2**60, -5), samples=9)
    data = seal_sum(summed, b"sum", metrics=metrics, keys=keys)
    assert open_sum(summed, data, keys=keys) == (b"sum", metrics)
    others = [
        Summed(created=created, round_id=4, members=members),
        Summed(created=created, round_id=3, members=[replace(members[0], weight=1), members[1]]),
    ]
    for other in others:
        with pytest.raises(BodyError, match="not_opened"):
            open_sum(other, data, keys=keys)
    # To the newest of their epochs, which is the last to go.
    keys.destroy(created, 0)
    assert open_sum(summed, data, keys=keys) == (b"sum", metrics)
    keys.destroy(created, 1)
    with pytest.raises(EpochKeyMissing):
        open_sum(summed, data, keys=keys)
