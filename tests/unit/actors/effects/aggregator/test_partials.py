"""Results of shard workers as the aggregator takes them: under their seal, and whatever else stands beside them."""

from __future__ import annotations

from structlog.testing import capture_logs

from actors.effects.aggregator.intake import UpdateBody
from actors.effects.aggregator.partials import Partials
from actors.effects.aggregator.summation import choose_summation
from actors.keys import PartialSeals
from schemas.canonical import encode
from schemas.events import BodyMeasured
from schemas.identifiers import BodyRef
from schemas.topics import PARTIALS, SHARDS
from tests.worlds.builders import lease, policy, role_key
from tests.worlds.federation import Federation


def test_junk_between_results_is_counted() -> None:
    """What no shard worker has sealed changes nothing, and is told; the result behind it is found all the same."""
    world = Federation(policy(shards=2))
    task = world.actors["aggregator"].state.tasks[world.task]
    ref = BodyRef(topic=SHARDS.name, partition=1, offsets=(0,), sha256=b"s" * 32, size=9, codec="float32")
    unsealed = BodyMeasured(task=world.task, body=ref, clip_scale=1, fault=None, seal=bytes(32))
    result = PartialSeals(role_key("aggregator")).seal(unsealed)
    for value in (b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000, encode(unsealed), encode(result)):
        world.append(PARTIALS.name, value)
    partials = Partials(world.log, world.partition, PartialSeals(role_key("aggregator")))
    partials.patience_s = 1.0
    with capture_logs() as lines:
        found = partials.find_measured(task, UpdateBody(choose_summation(task.created), ref, lease()))
    assert found is not None
    assert found.scale == 1
    assert [line["count"] for line in lines if line["event"] == "junk_skipped"] == [1, 2, 4]
