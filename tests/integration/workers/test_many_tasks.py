"""Many tasks over all partitions: a worker joins under load, another dies, and every task goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.topics import partition_of
from streams.kafka.settings import KafkaSettings
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import Stage, Worker, say, staged

# Not the number that topics get by themselves: of two workers one has more than a third, so that a newcomer gets some.
PARTITIONS = 5
# Populations of two tasks each.
TASKS = tuple(f"ward-{number // 2}.task-{number % 2}" for number in range(16))
DEVICES = 2  # a task; both fill a round
HABITS = Habits(again=0.1, rest_s=1.0, joins_within_s=1.0)


@pytest.mark.timeout(180)
def test_a_worker_joins_and_another_dies_under_load(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Laws 2 to 6 on every partition while 16 tasks run, a third aggregator takes some over, and one of the first dies.

    The newcomer publishes versions of what it took over, and after the death every task gets two more.
    """
    rules = policy(
        selection={"devices_expected": DEVICES, "concurrency": DEVICES, "retry_after_s": 0.5},
        aggregation={"updates_per_round": DEVICES},
        stop={"versions_max": 1_000},
    )
    assert {partition_of(task, PARTITIONS) for task in TASKS} == set(range(PARTITIONS))
    with staged(kafka_settings, tmp_path, partitions=PARTITIONS) as stage:
        _, first, *_ = stage.start("selector", *["aggregator"] * 2)
        for task in TASKS:
            stage.create_task(task, rules, parameters=10)
        with Fleet(kafka_settings, TASKS[0], rules, 10, DEVICES, habits=HABITS, others=TASKS[1:]) as devices:
            _until(stage, lambda: stage.version(*TASKS) >= 1, "version 1 of every task")
            [newcomer] = stage.start("aggregator")
            _until(stage, lambda: _has_published(newcomer), "a version by the newcomer")
            child, opened = first.child(), len(first.openings)
            assert child is not None
            child.kill()
            _until(stage, lambda: first.starts > 1 and len(first.openings) > opened, "its partitions opened anew")
            before = stage.version(*TASKS)
            _until(stage, lambda: stage.version(*TASKS) >= before + 2, "two more versions of every task")
            devices.rest()
        stage.until_lawful(*range(PARTITIONS))
        moved = sorted({told["partition"] for told in newcomer.openings})
        say(f"to the newcomer: {moved}; {stage.report(*range(PARTITIONS))}")


def _until(stage: Stage, is_so: Callable[[], bool], what: str) -> None:
    """Wait, and read what is published meanwhile: versions that are counted afterwards are newer."""
    stage.until(lambda: stage.version(*TASKS) >= 0 and is_so(), what, timeout_s=90)


def _has_published(worker: Worker) -> bool:
    """Whether it has committed a version, so that it has decided the last update in it or what came after that."""
    return '"event": "model_published"' in worker.log_file.read_text(errors="replace")
