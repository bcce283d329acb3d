"""Devices that see nothing but a gateway, over a real Kafka: what they were told was taken is in the log, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.kafka.settings import KafkaSettings
from tests.learners import FLAT_LEARNER
from tests.places import home_of
from tests.root import ROOT
from tests.worlds.gateway.process import running
from tests.worlds.stage import PLAIN_ACTORS, say, staged

TASK = "digits"
# Large enough that an update is too long to travel inside its record.
POLICY = f"""
model = ""
learner = "{FLAT_LEARNER}"
[learner_arguments]
parameters = 40_000
[selection]
devices_expected = 10
concurrency = 10
lease_s = 30.0
[aggregation]
updates_per_round = 5
[compression]
codec = "float32"
[stop]
versions_max = 4
"""


@pytest.mark.timeout(300)
def test_devices_train_over_a_gateway_that_is_killed(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Nothing is lost and nothing twice: kill -9 of the gateway in the midst costs repeats alone; replay agrees."""
    (tmp_path / "policy.toml").write_text(POLICY)
    with staged(kafka_settings, tmp_path) as stage:
        made = stage.fedlog("task", "create", str(tmp_path / "policy.toml"), "--name", TASK)
        assert made.exit_code == 0, made.stderr
        stage.start(*PLAIN_ACTORS)
        stage.until_version(TASK, 0)
        operator = stage.key.public_key.hex()
        with running([*stage.options, "--operator-public-key", operator], tmp_path) as gateway:
            # The devices know the gateway and the operator's public key: no Kafka, and no key of anybody else.
            words = ["--operator-public-key", operator, "--folder", str(tmp_path / "elsewhere")]
            words += ["fleet", "--gateway", gateway.url, "--task", TASK]
            words += ["--devices", "10", "--processes", "1", "--allow", FLAT_LEARNER, "--json"]
            fleet = subprocess.Popen(
                [sys.executable, "-P", "-m", "ops.terminal.cli", *words],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            try:
                stage.until_version(TASK, 1)
                gateway.kill()
                time.sleep(1.0)
                gateway.start()
                stage.until_version(TASK, 4)
                told, problems = fleet.communicate(timeout=120)
            finally:
                fleet.kill()
                fleet.wait()
            counts = json.loads(told)
            assert counts["admitted"] >= 4 * 5, problems
            assert gateway.end() == 0, gateway.read_log()
        partition = home_of(TASK)
        stage.until_lawful(partition)
        replayed = stage.fedlog("replay", "--full", "--json")
        assert json.loads(replayed.stdout)["replay"] == "identical"
        say(stage.report(partition), counts)
