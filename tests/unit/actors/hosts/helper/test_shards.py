"""Masked tasks with shards: who adds masked vectors changes no bit, and a helper knows of nobody who does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.effects.shard.worker import Shard
from ops.audit.replay import Anchor, Audit
from schemas.canonical import decode
from schemas.events import ModelPublished, Partial, PartialStored, SumStored, UpdateAdmitted
from schemas.topics import PARTIALS, ROUNDS, SHARDS
from streams.log import TopicPartition, scan
from tests.judges.lawcheck import check
from tests.places import PARTITIONS
from tests.worlds.builders import KEY, role_key
from tests.worlds.masking.federation import MaskedFederation, masked_policy

SIZES = {"a": 1.0, "b": -2.5, "c": 12.0, "d": 0.5, "e": 3.0, "f": -7.0}
DELTAS = {name: np.full(4, size, np.float32) for name, size in SIZES.items()}


def _round(folder: Path, *, shards: int, has_workers: bool) -> MaskedFederation:
    """One round of six updates that are too long for their records."""
    folder.mkdir()
    rules = masked_policy(folder, aggregation={"updates_per_round": 6}, **({"shards": shards} if shards > 1 else {}))
    world = MaskedFederation(rules, folder)
    worker = Shard(world.log, role_key("shard"), range(PARTITIONS))
    world.check_in(*DELTAS)
    for name, delta in DELTAS.items():
        world.submit(name, delta, inline=False)
    while has_workers and worker.step(0.0):
        pass
    world.feed("aggregator")
    while has_workers and worker.step(0.0):
        pass
    world.settle()
    worker.close()
    return world


@pytest.mark.parametrize("has_workers", [True, False], ids=["with workers", "without"])
def test_shards_change_no_bit_of_a_masked_sum(tmp_path: Path, has_workers: bool) -> None:
    """The masks come off sums that shard workers have made as off one: the model is that of a task without shards."""
    alone = _round(tmp_path / "alone", shards=1, has_workers=False)
    spread = _round(tmp_path / "spread", shards=4, has_workers=has_workers)
    digests = [[event.sum_sha256 for event in world.events(ROUNDS.name, SumStored)] for world in (alone, spread)]
    models = [[event.model.sha256 for event in world.events(ROUNDS.name, ModelPublished)] for world in (alone, spread)]
    assert len(digests[0]) == 1
    assert (digests[0], models[0]) == (digests[1], models[1])
    admitted = spread.events(ROUNDS.name, UpdateAdmitted)
    assert {event.body.topic for event in admitted} == {SHARDS.name}
    places = {event.body.partition for event in admitted}
    assert len(places) > 1
    records = scan(spread.log, TopicPartition(PARTIALS.name, spread.partition))
    told = [decode(record.value or b"", Partial) for record in records]  # type: ignore[arg-type,var-annotated]
    assert len([one for one in told if isinstance(one, PartialStored)]) == (len(places) if has_workers else 0)
    found = Audit(spread.log, spread.partition, anchor=Anchor(operator=KEY.public_key, noise=None), full=True).run()
    assert (found.verdict, found.sums, found.compared) == ("identical", 1, 1)
    assert not check(spread.log, spread.partition, settled=True)
