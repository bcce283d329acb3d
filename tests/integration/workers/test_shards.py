"""A task with shards on a real Kafka: its bodies are measured and added by shard workers, which die as they please."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from schemas.canonical import decode
from schemas.events import BodyMeasured, Partial, PartialStored
from schemas.policy import Policy
from schemas.topics import PARTIALS, SHARDS
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition, scan
from tests.places import home_of
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, Stage, Worker, say, staged

TASK = "task"
PARTITION = home_of(TASK)


def rules() -> Policy:
    """A private task over four partitions."""
    plain = policy(
        selection={"devices_expected": 12, "concurrency": 10, "retry_after_s": 0.3, "lease_s": 8.0},
        aggregation={"updates_per_round": 5},
        compression={"codec": "int8"},
        privacy={"noise_multiplier": 100.0, "rho_max": 1.0},
        stop={"versions_max": 5_000},
    )
    return replace(plain, shards=4)


@pytest.mark.timeout(240)
def test_shards_lose_nothing_when_their_workers_die(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Laws 2 to 6 with shards: workers of every kind are killed, all shard workers at once too, and versions go on.

    What shard workers tell is there and sealed, every sum is the one of the bodies, and a full replay agrees.
    """
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(TASK, rules(), parameters=2_000)
        stage.start(*ACTORS)
        shards = stage.start("shard", "shard")
        aggregator = next(worker for worker in stage.workers if worker.actor == "aggregator")
        with Fleet(stage.kafka, TASK, rules(), 2_000, 12, seed=5, habits=Habits(again=0.1, inline=0.1)) as devices:
            stage.until(lambda: _told(stage, PartialStored) > 1, "partial sums", timeout_s=60)
            _strike(stage, [shards[0], aggregator])
            for worker in shards:
                worker.kill()  # for good: the aggregator does all the work from here on
            stage.until_version(TASK, stage.version(TASK) + 2)
            before = _told(stage, PartialStored)
            stage.start("shard")
            stage.until(lambda: _told(stage, PartialStored) > before + 10, "sums of a newcomer", timeout_s=60)
            devices.rest(90)
        stage.until_lawful(PARTITION)
        say(stage.report(PARTITION), f"measured {_told(stage, BodyMeasured)}, sums {_told(stage, PartialStored)}")
        places = [TopicPartition(SHARDS.name, partition) for partition in range(8)]
        assert sum(stage.log.bounds(at).end > 0 for at in places) == 4
        replayed = stage.fedlog("replay", "--full", "--task", TASK)
        assert replayed.exit_code == 0, replayed.output


def _strike(stage: Stage, workers: list[Worker]) -> None:
    """SIGKILL the worker processes themselves; their supervisors start them again."""
    for worker in workers:
        stage.until(worker.child, "a worker that is back", timeout_s=90)
        child = worker.child()
        assert child is not None
        child.kill()
    stage.until_version(TASK, stage.version(TASK) + 2)


def _told(stage: Stage, kind: type[Partial]) -> int:
    records = scan(stage.log, TopicPartition(PARTIALS.name, PARTITION))
    return sum(isinstance(decode(record.value or b"", Partial), kind) for record in records)  # type: ignore[arg-type]
