"""A masked, private task over a real Kafka and a gateway: two helpers, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from actors.hosts.helper.store import create_store
from streams.kafka.settings import KafkaSettings
from tests.learners import FLAT_LEARNER
from tests.places import home_of
from tests.root import ROOT
from tests.worlds.gateway.process import running
from tests.worlds.stage import ACTORS, Stage, say, staged

TASK = "masked"
CLI = [sys.executable, "-P", "-m", "ops.terminal.cli"]
# Large enough that an update is too long to travel inside its record.
POLICY = f"""
model = ""
learner = "{FLAT_LEARNER}"
tier = "masked"
[masked]
helpers = HELPERS
epoch_versions = 2
noise = "helpers"
[learner_arguments]
parameters = 40_000
[selection]
devices_expected = 8
concurrency = 8
lease_s = 30.0
[aggregation]
updates_per_round = 4
[compression]
codec = "float32"
[privacy]
noise_multiplier = 1.0
rho_max = 9.0
[stop]
versions_max = 4
"""


@contextmanager
def _helping(stage: Stage, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A helper that has its own folder and the operator's public key, and nothing else of anybody's."""
    words = ["--operator-public-key", stage.key.public_key.hex(), "--folder", str(folder / "elsewhere")]
    with (folder / "helper.log").open("ab") as log:
        process = subprocess.Popen(
            [*CLI, *stage.options, *words, "helper", "run", "--state", str(folder / "state")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
def test_a_masked_task_outlives_the_death_of_a_helper(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """kill -9 of one of two, which draw the noise, delays its round alone; replay needs no key of them.

    The task is private: each round is charged before it is answered for.
    """
    folders = [tmp_path / f"helper-{number}" for number in range(2)]
    keys = [create_store(folder / "state").hex() for folder in folders]
    (tmp_path / "policy.toml").write_text(POLICY.replace("HELPERS", json.dumps(keys)))
    with staged(kafka_settings, tmp_path) as stage, ExitStack() as stack:
        made = stage.fedlog("task", "create", str(tmp_path / "policy.toml"), "--name", TASK)
        assert made.exit_code == 0, made.stderr
        stage.start(*ACTORS)
        stack.enter_context(_helping(stage, folders[0]))
        first = stack.enter_context(_helping(stage, folders[1]))
        stage.until_version(TASK, 0)
        operator = stage.key.public_key.hex()
        gateway = stack.enter_context(running([*stage.options, "--operator-public-key", operator], tmp_path))
        words = ["--operator-public-key", operator, "--folder", str(tmp_path / "elsewhere"), "fleet", "--task", TASK]
        words += ["--gateway", gateway.url, "--devices", "8", "--processes", "1", "--allow", FLAT_LEARNER, "--json"]
        fleet = subprocess.Popen(
            [*CLI, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stage.until_version(TASK, 1)
            first.send_signal(signal.SIGKILL)
            first.wait()
            stack.enter_context(_helping(stage, folders[1]))
            stage.until_version(TASK, 4)
            told, problems = fleet.communicate(timeout=120)
        finally:
            fleet.kill()
            fleet.wait()
        assert json.loads(told)["admitted"] >= 4 * 4, problems
        partition = home_of(TASK)
        stage.until_lawful(partition)
        replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)
        assert (replayed["replay"], replayed["sums"], replayed["unchecked"]) == ("identical", 4, [])
        say(stage.report(partition))
