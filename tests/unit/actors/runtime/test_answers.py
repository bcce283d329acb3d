"""What devices are told of one run of inputs: the newest of each thing, once."""

from __future__ import annotations

import numpy as np

from actors.runtime.answers import keep_newest
from schemas.events import Declined, Outcome
from schemas.topics import CHECKINS, UPDATES
from streams.log import TopicPartition, scan
from tests.worlds.builders import TASK, granted, lease, lease_id, policy
from tests.worlds.federation import Federation


def _declined(device: str, number: int, task: str = TASK) -> Declined:
    digest = number.to_bytes(32)
    return Declined(device=device, checkin_sha256=digest, task=task, reason="no_slot", retry_after_ms=1)


def _outcome(number: int) -> Outcome:
    digest = number.to_bytes(32)
    return Outcome(device="a", task=TASK, update=lease_id("a"), record_sha256=digest, outcome="admitted")


def test_a_device_is_told_the_newest_of_each_thing() -> None:
    """Of a task's declines and of a lease the newest; each record of an update has its own outcome; in their order."""
    first, second = (granted(lease("a"), checkin_sha256=number.to_bytes(32)) for number in (2, 3))
    told = [
        _declined("a", 1),
        _declined("b", 1),
        first,
        _outcome(1),
        _declined("a", 4),
        second,
        _outcome(2),
        _outcome(1),
    ]
    assert keep_newest(told) == [_declined("b", 1), _declined("a", 4), second, _outcome(2), _outcome(1)]
    assert keep_newest([_declined("a", 1), _declined("a", 1, task="other")]) == [
        _declined("a", 1),
        _declined("a", 1, task="other"),
    ]


def test_copies_cost_one_answer_a_run() -> None:
    """Whoever copies a check-in or an update, or repeats its own, buys one answer for all of a run."""
    world = Federation(policy())
    device = world.device("a")
    world.round_of({"a": np.ones(4, np.float32)})
    for topic in (CHECKINS.name, UPDATES.name):
        [record] = [*scan(world.log, TopicPartition(topic, world.partition))]
        before = len(device.answers())
        for _ in range(20):
            device.append(topic, record.value or b"")
        world.settle()
        assert len(device.answers()) == before + 1
