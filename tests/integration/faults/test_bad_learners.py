"""A fleet of learners that misbehave, each in its own way: each is ended, told and counted, and the task goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams.kafka.settings import KafkaSettings
from tests.root import ROOT
from tests.worlds.builders import policy
from tests.worlds.stage import ACTORS, staged

DEVICES = 4
# Every device under its first lease; afterwards all are needed for a round.
MOODY = """
import sys, time
import numpy as np

class Moody:
    def initialize(self, seed): return {"flat": np.zeros(6)}
    def load(self, part): return [part.index] * 3
    def evaluate(self, parameters, data): return {}
    def train(self, start, data, context):
        misbehaved = context.folder / "misbehaved"
        if not misbehaved.exists():
            misbehaved.touch()
            if data[0] == 0: time.sleep(600)
            while data[0] == 1: pass
            if data[0] == 2: return {"flat": start["flat"] + np.nan}, {}
            if data[0] == 3: sys.exit("no licence")
        return {"flat": start["flat"] + 0.01}, {}
"""


@pytest.mark.timeout(300)
def test_a_fleet_outlives_its_learners(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """A sleep, a loop, NaN and an exit cost a lease each, and the process that slept; the end counts them by reason."""
    (tmp_path / "moody.py").write_text(MOODY)
    rules = policy(
        model="",
        learner="moody:Moody",
        selection={"devices_expected": DEVICES, "concurrency": DEVICES, "lease_s": 3.0, "retry_after_s": 0.2},
        aggregation={"updates_per_round": DEVICES},
        stop={"versions_max": 2},
    )
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task("moody", rules, parameters=6)
        stage.start(*ACTORS)
        words = ["fleet", "--task", "moody", "--devices", str(DEVICES), "--processes", "1", "--allow", "moody:Moody"]
        words += ["--drop-probability", "0", "--presence", "1", "--training-ms", "1", "--json"]
        run = subprocess.run(
            [sys.executable, "-P", "-m", "ops.terminal.cli", *words, *stage.options],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert run.returncode == 0, run.stderr + stage.tails()
        counts = json.loads(run.stdout)
        assert (counts["failed"], counts["devices"]) == (0, DEVICES)
        reasons = counts["reasons"]
        for told in (
            "its process was ended (",
            "lease had ended before it did",
            "NaN or infinity in 'flat'",
            "no licence",
        ):
            assert sum(count for reason, count in reasons.items() if told in reason) == 1, (told, reasons)
        assert counts["given_up"] == sum(reasons.values())
        # Two rounds of all four, and nothing of what was not finished.
        assert counts["trained"] >= 2 * DEVICES
        stage.until_version("moody", 2)
        assert "waiting_for sim0-00000, training under" in run.stderr
