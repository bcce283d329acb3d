"""Shards: who measures and adds the bodies of a task, and whether anybody does, changes no bit of what is decided."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.effects.shard.worker import Shard
from ops.virtual.server import list_unread
from schemas.canonical import decode, encode
from schemas.events import (
    BodyMeasured,
    ModelPublished,
    Partial,
    PartialStored,
    RoundProposed,
    SumStored,
    UpdateAdmitted,
    UpdateRefused,
    UpdateSubmitted,
)
from schemas.identifiers import BodyRef
from schemas.signing import parse_signed
from schemas.topics import PARTIALS, ROUNDS, SHARDS, UPDATES
from streams.log import TopicPartition, scan
from tests.places import PARTITIONS
from tests.worlds.builders import policy, role_key
from tests.worlds.federation import Federation

PARAMETERS = 40
DEVICES = [f"device-{number}" for number in range(9)]
SHARDS_TRIED = (1, 2, 4, 8)


def _world(shards: int, **sections: Any) -> Federation:
    rules = policy(aggregation={"updates_per_round": 4}, **sections)
    return Federation(replace(rules, shards=shards) if shards > 1 else rules, parameters=PARAMETERS)


def _worker(world: Federation, *partitions: int) -> Shard:
    return Shard(world.log, role_key("shard"), partitions or range(PARTITIONS))


def _work(worker: Shard) -> None:
    while worker.step(0.0):
        pass


def _submit(world: Federation, order: list[int]) -> None:
    """Every device that can submits one update of its own, in this order."""
    for name in DEVICES:
        world.device(name).check_in()
    world.settle()
    for number in order:
        delta = np.random.default_rng(number).normal(size=PARAMETERS).astype(np.float32)
        if number == 8:
            delta *= 1e6  # out of the grid
        world.device(DEVICES[number]).submit(delta, world.rules, inline=number == 7)


@pytest.fixture(autouse=True, scope="module")
def _known_bytes() -> Iterator[None]:
    """Worlds are compared event by event, so that the salts of their members must not differ."""
    with patch("os.urandom", bytes):
        yield


def _told(world: Federation, kind: type[Partial]) -> list[Any]:
    records = scan(world.log, TopicPartition(PARTIALS.name, world.partition))
    partials = [decode(record.value or b"", Partial) for record in records]  # type: ignore[arg-type,var-annotated]
    return [partial for partial in partials if isinstance(partial, kind)]


def _outcome(world: Federation) -> list[Any]:
    """All that is decided about updates and versions, but for the places of bodies; when a version comes is chance."""
    admitted = [replace(event, body=event.body.sha256) for event in world.events(ROUNDS.name, UpdateAdmitted)]
    models = [event.model.sha256 for event in world.events(ROUNDS.name, ModelPublished)]
    others = [world.events(ROUNDS.name, kind) for kind in (UpdateRefused, RoundProposed, SumStored)]
    return [admitted, *others, models]


@given(
    order=st.permutations(range(9)),
    shards=st.sampled_from(SHARDS_TRIED[1:]),
    codec=st.sampled_from(["float32", "int8", "topk"]),
    data=st.data(),
)
def test_shards_change_no_bit(order: list[int], shards: int, codec: str, data: st.DataObject) -> None:
    """Law 6: for one order of updates all decisions, sums and models are those of a task without shards, bit for bit.

    Shard workers look after any of the partitions, come and go between any two steps, and may be there twice.
    """
    alone, spread = (_world(each, compression={"codec": codec}) for each in (1, shards))
    workers = [_worker(spread)] if data.draw(st.booleans()) else []
    for world in (alone, spread):
        _submit(world, order)
    alone.settle()
    for _ in range(12):
        match data.draw(st.sampled_from(["start", "die", "work", "decide", "restart"])):
            case "start":
                mine = data.draw(st.sets(st.integers(0, PARTITIONS - 1), min_size=1))
                workers.append(_worker(spread, *mine))
            case "die" if workers:
                workers.pop(data.draw(st.integers(0, len(workers) - 1)))
            case "work":
                for worker in workers:
                    _work(worker)
            case "decide":
                spread.feed("aggregator", most=data.draw(st.integers(1, 4)))
            case "restart":
                spread.start("aggregator")
    spread.settle()
    assert _outcome(spread) == _outcome(alone)
    assert any(isinstance(event, SumStored) for event in spread.events(ROUNDS.name))


def test_sums_and_models_are_the_same_for_any_order_and_any_shards() -> None:
    """Law 6: the same members and weights give the same sum and the same model, however they came and lay."""
    found = set()
    for shards in SHARDS_TRIED:
        for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
            world = _world(shards)
            worker = _worker(world)
            _submit(world, order)
            _work(worker)
            actor = world.actors["aggregator"]
            actor.handle([*list_unread(actor, world.log, UPDATES.name)])
            _work(worker)  # the sums, before the aggregator asks for them
            world.settle()
            [stored] = world.events(ROUNDS.name, SumStored)
            found.add((stored.sum_sha256, world.events(ROUNDS.name, ModelPublished)[-1].model.sha256))
    assert len(found) == 1


def test_what_a_worker_tells_is_used() -> None:
    """With a worker at work the aggregator reads no body of an update: neither to decide nor for the sum."""
    world = _world(4)
    worker = _worker(world)
    _submit(world, [0, 1, 2, 3])
    _work(worker)
    assert len(_told(world, BodyMeasured)) == 4
    for partition in range(PARTITIONS):
        end = world.log.bounds(TopicPartition(SHARDS.name, partition)).end
        world.log.delete_records(TopicPartition(SHARDS.name, partition), end)
    effects = world.actors["aggregator"]._effects
    world.feed("selector")
    actor = world.actors["aggregator"]
    actor.handle([*list_unread(actor, world.log, "updates")])
    admitted = world.events(ROUNDS.name, UpdateAdmitted)
    assert [event.zeroed for event in admitted] == [None] * 4
    assert effects._sums.running == {}
    _work(worker)
    assert len(_told(world, PartialStored)) == len({event.body.partition for event in admitted})
    world.settle()
    assert len(world.events(ROUNDS.name, ModelPublished)) == 2


def test_a_worker_that_comes_late_adds_what_came_before_it() -> None:
    """A worker that begins within a round stores the sum of all its members, with those admitted before it came."""
    alone, spread = _world(1), _world(2)
    for world in (alone, spread):
        _submit(world, [0, 1, 2, 3])
    alone.settle()
    spread.feed("aggregator", most=3)
    worker = _worker(spread)
    _work(worker)
    actor = spread.actors["aggregator"]
    # And no release yet, for which the worker would be too late.
    actor.handle([*list_unread(actor, spread.log, "updates")])
    *before, last = [event.body.partition for event in spread.events(ROUNDS.name, UpdateAdmitted)]
    assert (len(before), last in before) == (3, True)
    _work(worker)
    assert len(_told(spread, PartialStored)) == len({*before, last})
    spread.settle()
    assert _outcome(spread) == _outcome(alone)


def test_a_partial_that_nobody_sealed_is_not_believed() -> None:
    """A stranger who may write to `partials` changes no decision and no sum: what is told needs the workers' seal."""
    honest, lied_to = _world(4), _world(4)
    for world in (honest, lied_to):
        _submit(world, [0, 1, 2, 3])
    for ref in _bodies(lied_to):
        lie = BodyMeasured(task=lied_to.task, body=ref, clip_scale=1, fault=None, seal=bytes(32))
        lied_to.append(PARTIALS.name, encode(lie))
    lied_to.append(PARTIALS.name, b"junk")
    for world in (honest, lied_to):
        world.settle()
    assert _outcome(lied_to) == _outcome(honest)


def _bodies(world: Federation) -> list[BodyRef]:
    records = scan(world.log, TopicPartition(UPDATES.name, world.partition))
    return [decode(parse_signed(record.value or b"").payload, UpdateSubmitted).body for record in records]
