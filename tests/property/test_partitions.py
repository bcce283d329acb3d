"""Where a task lives on clusters of any size: its population says it, and nothing else moves with the number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actors.effects.shard.worker import Shard
from ops.audit.replay import Audit
from schemas.events import ModelPublished, SumStored
from schemas.identifiers import PARTITIONS_MAX
from schemas.topics import ROUNDS, answer_partition, body_place, partition_of
from tests.judges.lawcheck import check_book
from tests.judges.logbook import read
from tests.worlds.builders import ANCHOR, NOISE, policy, role_key
from tests.worlds.federation import Federation

NAMES = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,9}\Z")
COUNTS = st.integers(1, PARTITIONS_MAX)


@given(population=NAMES, task=NAMES, device=NAMES, partitions=COUNTS, shards=st.integers(1, PARTITIONS_MAX))
def test_a_population_is_one_place(population: str, task: str, device: str, partitions: int, shards: int) -> None:
    """Its tasks share a partition, whatever their names; every place that is ever chosen is there."""
    name = f"{population}.{task}"
    assert partition_of(name, partitions) == partition_of(population, partitions) < partitions
    assert answer_partition(device, partitions) < partitions
    assert body_place(name, device, shards=min(shards, partitions), partitions=partitions)[1] < partitions


def _trained(partitions: int, shards: int = 1) -> Federation:
    """Two rounds of a task in a population, with large bodies."""
    rules = policy()
    rules = replace(rules, shards=shards) if shards > 1 else rules
    world = Federation(rules, task="wards.first", partitions=partitions)
    worker = Shard(world.log, role_key("shard"), range(partitions))
    for turn in range(2):
        for number in range(3):
            world.device(f"{turn}{number}").check_in()
        world.settle()
        for number in range(3):
            delta = np.full(4, number + 1.0, np.float32)
            world.device(f"{turn}{number}").submit(delta, world.rules, inline=False)
        while worker.step(0.0):
            pass
        world.settle()
    return world


@pytest.mark.parametrize("partitions", [1, 3, 64])
def test_a_task_is_trained_on_any_number_of_partitions(partitions: int) -> None:
    """Every law holds, a full replay is identical, and no bit of a model or sum depends on the number."""
    world, known = _trained(partitions), _trained(8)
    assert world.log.partitions == partitions
    assert world.partition == partition_of("wards", partitions)
    assert check_book(world.log, read(world.log, world.partition, noise_key=NOISE.secret), settled=True) == []
    found = Audit(world.log, world.partition, anchor=ANCHOR, full=True, to=None).run()
    assert (found.differences, found.models) == ([], 2)
    for kind in (ModelPublished, SumStored):
        digests = [[_digest(event) for event in each.events(ROUNDS.name, kind)] for each in (world, known)]
        assert digests[0] == digests[1] != []


@pytest.mark.parametrize(("partitions", "shards"), [(3, 2), (3, 3), (64, 5)])
def test_shards_follow_the_number_of_partitions(partitions: int, shards: int) -> None:
    """Bodies spread over partitions that there are, and the models are those of a task without shards."""
    world, plain = _trained(partitions, shards), _trained(partitions)
    assert check_book(world.log, read(world.log, world.partition, noise_key=NOISE.secret), settled=True) == []
    models = [[event.model.sha256 for event in each.events(ROUNDS.name, ModelPublished)] for each in (world, plain)]
    assert len(models[0]) == 3
    assert models[0] == models[1]


def _digest(event: ModelPublished | SumStored) -> bytes:
    return event.model.sha256 if isinstance(event, ModelPublished) else event.sum_sha256
