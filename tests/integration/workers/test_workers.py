"""A federation on a real Kafka: workers as a user starts them, devices that see nothing but the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.worlds.builders import policy
from tests.worlds.scripted_fleet import Fleet, Habits
from tests.worlds.stage import ACTORS, Stage, say, staged

PRIVATE = {"noise_multiplier": 100.0, "rho_max": 1.0}


@pytest.mark.timeout(240)
def test_a_task_from_its_creation_to_its_audit(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Three workers and scripted devices make charged versions; every law holds, and replay recomputes each model.

    An export that was taken while they wrote agrees with itself, and later history goes on from it.
    """
    rules = policy(
        selection={"devices_expected": 8, "concurrency": 8, "retry_after_s": 0.2},
        compression={"codec": "int8"},
        privacy=PRIVATE,
    )
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task("smoke", rules, parameters=40)
        stage.start(*ACTORS)
        stage.until_version("smoke", 0)
        with Fleet(kafka_settings, "smoke", rules, 40, 8, habits=Habits(again=0.2)) as fleet:
            stage.until_version("smoke", 4)
            early = exported(stage, tmp_path / "early")
            stage.until_version("smoke", 8)
            fleet.rest()
        partition = home_of("smoke")
        stage.until_lawful(partition)
        replayed = stage.fedlog("replay", "--full", "--json")
        assert replayed.exit_code == 0, replayed.stdout + replayed.stderr
        assert json.loads(replayed.stdout)["replay"] == "identical"
        assert json.loads(replayed.stdout)["models"] >= 8
        verified = stage.fedlog("verify")
        assert verified.exit_code == 0, verified.stderr
        late = exported(stage, tmp_path / "late")
        for folder in (early, late):
            audit(stage, "replay", "--full", "--from-files", str(folder))
            audit(stage, "verify", "--from-files", str(folder))
        audit(stage, "verify", "--from-files", str(late), "--checkpoint", str(early / "checkpoint.json"))
        audit(stage, "verify", "--checkpoint", str(early / "checkpoint.json"))
        behind = stage.fedlog("verify", "--from-files", str(early), "--checkpoint", str(late / "checkpoint.json"))
        assert (behind.exit_code, "tail is cut off" in behind.stderr) == (1, True), behind.stderr
        say(stage.report(partition), dict(fleet.outcomes))


def exported(stage: Stage, folder: Path) -> Path:
    """Export the task's partition while it is written, or at rest."""
    audit(stage, "export-log", "--to", str(folder), "--task", "smoke", "--bodies")
    return folder


def audit(stage: Stage, *words: str) -> None:
    """A command whose answer is yes."""
    result = stage.fedlog(*words)
    assert result.exit_code == 0, f"{words}: {result.stdout}{result.stderr}"
