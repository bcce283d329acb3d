"""More than one task at a time: others, with other models, begin while the first one runs."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, say, staged

FIRST = "first"
BESIDE = next(f"beside-{n}" for n in range(100) if home_of(f"beside-{n}") == home_of(FIRST))
APART = next(f"apart-{n}" for n in range(100) if home_of(f"apart-{n}") != home_of(FIRST))


@pytest.mark.timeout(240)
def test_tasks_progress_side_by_side(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """A task in the same partition and one in another begin late, with other models and policies; all three go on."""
    slots = {"devices_expected": 6, "concurrency": 6, "retry_after_s": 0.3}
    tasks = {
        FIRST: (policy(selection=slots), 12),
        BESIDE: (policy(selection=slots, compression={"codec": "int8"}, optimizer={"rule": "adam"}), 5_000),
        APART: (policy(selection=slots, privacy={"noise_multiplier": 100.0, "rho_max": 1.0}), 77),
    }
    with staged(kafka_settings, tmp_path) as stage, ExitStack() as stack:
        stage.create_task(FIRST, tasks[FIRST][0], parameters=tasks[FIRST][1])
        stage.start(*ACTORS)
        fleets = []
        for name, (rules, parameters) in tasks.items():
            if name != FIRST:
                stage.create_task(name, rules, parameters=parameters)
            fleets.append(
                stack.enter_context(Fleet(kafka_settings, name, rules, parameters, 6, habits=Habits(again=0.1)))
            )
            stage.until_version(name, 2)
        versions = {name: stage.version(name) for name in tasks}
        for name, version in versions.items():
            stage.until_version(name, version + 2)
        for fleet in fleets:
            fleet.rest()
        partitions = sorted({home_of(name) for name in tasks})
        stage.until_lawful(*partitions, sums=False)
        replayed = stage.fedlog("replay", "--full", "--json")
        assert replayed.exit_code == 0, replayed.stdout + replayed.stderr
        say(stage.report(*partitions))
