"""A masked, private task over a real Kafka and a gateway: two helpers, one of which is killed in the middle.

It has shards, and its devices report a metric in the noise.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from actors.hosts.helper.store import create_store
from schemas.canonical import decode
from schemas.events import Partial, PartialStored, SumStored, UpdateAdmitted
from schemas.topics import PARTIALS, ROUNDS, SHARDS
from streams.journals import read_decisions
from streams.kafka.settings import KafkaSettings
from streams.log import TopicPartition, scan
from tests.learners import FLAT_LEARNER
from tests.places import home_of
from tests.root import ROOT
from tests.worlds.gateway.process import running
from tests.worlds.masking.helping import helping
from tests.worlds.stage import ACTORS, CLI, say, staged

TASK = "masked"
# Large enough that an update is too long to travel inside its record.
POLICY = f"""
model = ""
learner = "{FLAT_LEARNER}"
tier = "masked"
shards = 2
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
[evaluation]
report = ["loss"]
report_bounds.loss = 1.0
[privacy]
noise_multiplier = 1.0
rho_max = 9.0
[stop]
versions_max = 4
"""


@pytest.mark.timeout(300)
def test_a_masked_task_outlives_the_death_of_a_helper(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """kill -9 of one of two, which draw the noise, delays its round alone; replay needs no key of them.

    The task is private: each round is charged before it is answered for. Shard workers add what they cannot read, and
    each release tells what devices report, noised; both as a replay recomputes them from bodies and masks.
    """
    folders = [tmp_path / f"helper-{number}" for number in range(2)]
    keys = [create_store(folder / "state").hex() for folder in folders]
    (tmp_path / "policy.toml").write_text(POLICY.replace("HELPERS", json.dumps(keys)))
    with staged(kafka_settings, tmp_path) as stage, ExitStack() as stack:
        made = stage.fedlog("task", "create", str(tmp_path / "policy.toml"), "--name", TASK)
        assert made.exit_code == 0, made.stderr
        stage.start(*ACTORS, "shard")
        stack.enter_context(helping(stage, folders[0]))
        first = stack.enter_context(helping(stage, folders[1]))
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
            stack.enter_context(helping(stage, folders[1]))
            stage.until_version(TASK, 4)
            told, problems = fleet.communicate(timeout=120)
        finally:
            fleet.kill()
            fleet.wait()
        assert json.loads(told)["admitted"] >= 4 * 4, problems
        stage.until_lawful(partition := home_of(TASK))
        replayed = json.loads(stage.fedlog("replay", "--full", "--json").stdout)
        assert (replayed["replay"], replayed["sums"], replayed["unchecked"]) == ("identical", 4, [])
        journal = read_decisions(stage.log, TopicPartition(ROUNDS.name, partition), trust=None)
        events = [event for _, decision, _ in journal for event in decision.events]
        assert {event.body.topic for event in events if isinstance(event, UpdateAdmitted)} == {SHARDS.name}
        told = [event.metrics for event in events if isinstance(event, SumStored) and event.metrics]
        assert [(len(each.sums), each.samples) for each in told] == [(1, 4)] * 4
        added = scan(stage.log, TopicPartition(PARTIALS.name, partition))
        assert any(isinstance(decode(record.value or b"", Partial), PartialStored) for record in added)  # type: ignore[arg-type]
        say(stage.report(partition))
