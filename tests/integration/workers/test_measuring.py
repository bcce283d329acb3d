"""A question to real devices on a real broker, asked and read by the console."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client_agent.running.loop import read_clock_ms
from streams.kafka.log import KafkaLog
from streams.kafka.settings import KafkaSettings
from tests.places import home_of
from tests.survey import RINGS, opened_devices, training_policy
from tests.worlds.stage import ACTORS, Stage, say, staged

SLOTS = {"devices_expected": 2, "concurrency": 2, "retry_after_s": 0.3}
DEVICES = 2


def live(stage: Stage, log: KafkaLog, task: str) -> None:
    """Let the devices work on a task until it has a version."""
    operator = stage.key.public_key
    with opened_devices(log, task, stage.folder, devices=DEVICES, clock_ms=read_clock_ms, operator=operator) as loop:
        stage.until(lambda: loop.step(read_clock_ms(), 0.1) and stage.version(task) >= 1, task, timeout_s=90)


@pytest.mark.timeout(240)
def test_a_version_is_measured_by_its_devices(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """A task is trained, its version measured, announced, shown, exported; the log is lawful and replays in full."""
    rules = training_policy(selection=SLOTS, aggregation={"updates_per_round": DEVICES}, stop={"versions_max": 1})
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task(RINGS, rules, parameters=6)
        stage.start(*ACTORS)
        live(stage, stage.log, RINGS)
        asked = stage.fedlog("measure", RINGS, "--metrics", "sum", "--bound", "sum=64", "--version", "1")
        assert asked.exit_code == 0, asked.stderr
        name = asked.stdout.strip()
        live(stage, stage.log, name)
        shown = json.loads(stage.fedlog("task", "show", RINGS, "--json").stdout)
        [measured] = shown["measurements"]
        assert (measured["task"], measured["of_version"], measured["devices"]) == (name, 1, DEVICES)
        assert measured["statistics"]["examples"] == 7.0
        exported = stage.fedlog("model", "export", "--task", name, "--out", str(tmp_path / "out"))
        assert exported.exit_code == 0, exported.stderr
        assert json.loads((tmp_path / "out" / "config.json").read_text())["measured"] == {"task": RINGS, "version": 1}
        stage.until_lawful(home_of(RINGS))
        for words in (("verify",), ("replay", "--full", "--json")):
            checked = stage.fedlog(*words)
            assert checked.exit_code == 0, checked.stdout + checked.stderr
        say(stage.report(home_of(RINGS)))
