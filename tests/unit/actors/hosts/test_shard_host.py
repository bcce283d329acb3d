"""The host of a shard worker: another shard whenever its group decides anew, or when a shard has come too late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.hosts import shard_host
from actors.hosts.metrics import WorkerMetrics
from actors.hosts.shard_host import ShardHost
from actors.hosts.worker import Worker, WorkerOptions
from schemas.topics import CATALOGUE
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable
from streams.memory import MemoryLog
from tests.worlds.builders import role_key


class Membership:
    """A group of one."""

    def __init__(self) -> None:
        self.assigned = frozenset({1, 2})

    def partitions(self) -> frozenset[int]:
        """As the test says."""
        return self.assigned


@pytest.fixture
def hosted() -> ShardHost:
    """A host over an empty log."""
    log: Any = MemoryLog(CATALOGUE)
    group: Any = Membership()
    options = WorkerOptions(kafka=KafkaSettings(bootstrap_servers="nowhere:1"), key=role_key("shard"))
    return ShardHost(Worker(options, log, WorkerMetrics()), group)


def test_a_shard_begins_for_what_is_assigned(hosted: ShardHost) -> None:
    """The same shard goes on while the group leaves it alone, and another begins when it does not."""
    asyncio.run(hosted.turn())
    first = hosted._shard
    assert first.partitions == {1, 2}
    asyncio.run(hosted.turn())
    assert hosted._shard is first
    group: Any = hosted._membership
    group.assigned = frozenset({2})
    asyncio.run(hosted.turn())
    assert hosted._shard.partitions == {2}


def test_a_shard_that_fails_is_replaced(hosted: ShardHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it holds is a function of the log, so that a new one for the same partitions knows as much."""
    monkeypatch.setattr(shard_host, "RETRY_EVERY_S", 0.0)
    asyncio.run(hosted.turn())
    failed = hosted._shard

    def step(timeout_s: float) -> int:
        raise LogUnavailable("away")

    monkeypatch.setattr(failed, "step", step)
    asyncio.run(hosted.turn())
    assert hosted._shard is not failed
    assert hosted._shard.partitions == failed.partitions
