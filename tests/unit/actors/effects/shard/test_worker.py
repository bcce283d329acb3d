"""A task with shards: its policy, where its bodies lie, what a shard worker holds and lets go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from actors.effects.shard import held as held_vectors
from actors.effects.shard import worker as shard
from actors.effects.shard.worker import Shard
from ops.audit.export import select_topics, write_export
from ops.audit.replay import Audit
from schemas.canonical import encode
from schemas.events import ModelPublished, Tick, UpdateRefused
from schemas.identifiers import PARTITIONS_MAX, BodyRef
from schemas.policy import Compression, PolicyError, check_policy, parse
from schemas.topics import ROUNDS, SHARDS, UPDATES, body_place
from streams.exported import ExportedLog
from streams.log import TopicPartition
from tests.places import PARTITIONS, home_of
from tests.unit.client_agent.outbox.test_outbox import one_life
from tests.worlds import device_world
from tests.worlds.builders import ANCHOR, KEY, policy, role_key, signed, update_submitted
from tests.worlds.federation import Federation

PARAMETERS = 100
BODY_BYTES = 4 * PARAMETERS


def _world(**sections: dict[str, object]) -> Federation:
    return Federation(replace(policy(**sections), shards=4), parameters=PARAMETERS)


def _submit(world: Federation, names: str) -> None:
    for name in names:
        world.device(name).check_in()
    world.settle()
    for name in names:
        world.device(name).submit(np.full(PARAMETERS, 0.1, np.float32), world.rules, inline=False)


def _work(worker: Shard) -> None:
    while worker.step(0.0):
        pass


def test_a_policy_without_shards_has_the_bytes_of_before() -> None:
    """Law 11: the field stands only where somebody set it, so that recorded policies keep their digests."""
    assert b"shards" not in encode(policy())
    assert b"shards" in encode(replace(policy(), shards=2))
    text = 'model = "a:b"\nshards = 4\n[selection]\ndevices_expected = 9\nconcurrency = 3\n'
    rules = parse(text + "[aggregation]\nupdates_per_round = 3\n[stop]\nversions_max = 2\n")
    assert (rules.shard_count, policy().shard_count) == (4, 1)


@pytest.mark.parametrize("shards", [0, PARTITIONS_MAX + 1])
def test_as_many_shards_as_partitions_at_most(shards: int) -> None:
    """A number of shards that no cluster has is refused, with field, value and bound."""
    with pytest.raises(PolicyError, match=rf"shards = {shards}: must be from 1 to {PARTITIONS_MAX}"):
        check_policy(replace(policy(), shards=shards))


def test_devices_are_spread_evenly() -> None:
    """Each of S partitions gets its share of the devices, whatever the number of shards."""
    for shards in (2, 4, 8):
        places = [
            body_place("task", f"device-{number}", shards=shards, partitions=PARTITIONS) for number in range(4_000)
        ]
        counts = [places.count(place) for place in set(places)]
        assert len(counts) == shards
        assert min(counts) > 0.8 * 4_000 / shards
    assert body_place("task", "device", shards=1, partitions=PARTITIONS) == ("bodies", home_of("task"))


def test_a_device_stores_its_body_where_its_shard_is(tmp_path: Path) -> None:
    """The device's own code puts a large body into the partition that the aggregator expects, also after a death."""
    rules = replace(device_world.policy(compression=Compression(codec="float32")), shards=8)
    world = device_world.World(rules, parameters=40_000)
    one_life(world, tmp_path, "kept", at_ms=0)
    one_life(world, tmp_path, "settled", at_ms=60_000)
    [update] = world.submitted()
    name = world.device(tmp_path).setting.identity.device
    assert (update.body.topic, update.body.partition) == body_place(
        device_world.TASK, name, shards=8, partitions=PARTITIONS
    )


def test_a_body_in_another_partition_is_malformed() -> None:
    """Nobody looks after a body that lies elsewhere: it is refused without being looked for."""
    world = _world()
    device = world.device("a")
    device.check_in()
    world.settle()
    device.place = TopicPartition(SHARDS.name, (device.place.partition + 1) % PARTITIONS)
    device.submit(np.ones(PARAMETERS, np.float32), world.rules, inline=False)
    world.settle()
    assert [event.reason for event in world.events(ROUNDS.name, UpdateRefused)] == ["body_malformed"]


def test_a_worker_holds_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """It measures no further ahead than it can hold, goes on with what is decided, and forgets what was refused."""
    monkeypatch.setattr(held_vectors, "BYTES_MAX", 3 * BODY_BYTES)
    monkeypatch.setattr(shard, "MEASURED_AT_ONCE", 1)
    world = _world(aggregation={"updates_per_round": 6}, compression={"codec": "float32"})
    worker = Shard(world.log, role_key("shard"), range(PARTITIONS))
    _submit(world, "abcdefg")
    _work(worker)
    assert 0 < worker._held._bytes <= 4 * BODY_BYTES
    held = worker.counts.measured
    assert held < 7
    world.feed("aggregator", most=1_000)
    _work(worker)
    assert (worker._held._bytes, worker._held._found) == (0, {})
    world.settle()
    assert len(world.events(ROUNDS.name, ModelPublished)) == 2


def test_an_invented_address_ends_no_worker() -> None:
    """Law 9: with privacy a body that is nowhere keeps its slot, and shard workers pass it over."""
    world = _world(privacy={"noise_multiplier": 1.0, "rho_max": 9.0})
    worker = Shard(world.log, role_key("shard"), range(PARTITIONS))
    device = world.device("a")
    device.check_in()
    world.settle()
    ref = BodyRef(topic=SHARDS.name, partition=world.partition, offsets=(), sha256=bytes(32), size=5, codec="float32")
    submitted = update_submitted(device.granted().sealed, ref)
    device.append(UPDATES.name, signed(submitted, device.key))
    world.settle()
    _work(worker)
    worker.delete_unneeded()
    _submit(world, "bc")
    world.settle()
    _work(worker)
    assert [event.version for event in world.events(ROUNDS.name, ModelPublished)] == [0, 1]
    assert (worker._sums, worker.counts.stored) == ({}, len({world.device(name).place for name in "bc"}))


def test_bodies_of_shards_are_deleted_when_nobody_needs_them() -> None:
    """They go once their rounds are published and the policy's hours have passed; those of an open round stay."""
    world = _world(retention={"body_hours": 1.0}, stop={"idle_s": 86_400.0})
    worker = Shard(world.log, role_key("shard"), range(PARTITIONS))
    _submit(world, "abc")
    world.settle()
    _submit(world, "d")
    world.settle()
    _work(worker)
    worker.delete_unneeded()
    assert _held(world) == 4
    world.pass_ms(2 * 3_600_000)
    world.device("e").append(UPDATES.name, encode(Tick()))
    world.settle()
    _work(worker)
    worker.delete_unneeded()
    assert _held(world) == 1
    _submit(world, "ef")
    world.settle()
    assert len(world.events(ROUNDS.name, ModelPublished)) == 3


def test_an_export_holds_the_bodies_of_shards(tmp_path: Path) -> None:
    """What is exported of a task with shards can be replayed in full without Kafka, wherever its bodies lay."""
    world = _world()
    _submit(world, "abcdef")
    world.settle()
    topics = select_topics(bodies=True, inputs=False)
    write_export(world.log, [world.partition], topics=topics, folder=tmp_path / "out", key=KEY)
    found = Audit(ExportedLog(tmp_path / "out"), world.partition, anchor=ANCHOR, full=True, to=None).run()
    assert (found.verdict, found.sums, found.unchecked) == ("identical", 2, [])


def _held(world: Federation) -> int:
    """Bodies of updates that are still there; the sums beside them are of eight bytes a parameter."""
    places = [TopicPartition(SHARDS.name, partition) for partition in range(PARTITIONS)]
    entries = [entry for at in places for entry in world.log._partitions[at].entries if entry.record]
    return sum(len(entry.record.value or b"") < 8 * PARAMETERS for entry in entries if entry.record)
