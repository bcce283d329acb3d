"""A fleet of learners that misbehave, each in its own way: each is ended, told and counted, and the task goes on."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from streams.kafka.settings import KafkaSettings
from tests.root import ROOT
from tests.worlds.builders import policy
from tests.worlds.stage import PLAIN_ACTORS, Stage, staged

DEVICES = 4
# Two more never have data; 4 s, because on a busy machine the others need some time as well.
HANGING, LOAD_S = 2, 4
# Every device under its first lease; afterwards all are needed for a round. What hears no exception is ended after 3 s
# and not after 10: of four that are waited for here it makes no difference to any guarantee.
MOODY = """
import sys, time
import numpy as np
from client_agent.running import watch

watch.STUCK_S, watch.QUIET_S = 3.0, 5.0

class Moody:
    def initialize(self, seed): return {"flat": np.zeros(6)}
    def load(self, part):
        if part.index == 4: time.sleep(600)
        while part.index == 5: pass
        return [part.index] * 3
    def evaluate(self, parameters, data): return {"sum": 1.0}
    def train(self, start, data, context):
        misbehaved = context.folder / "misbehaved"
        if not misbehaved.exists():
            misbehaved.touch()
            if data[0] == 0: time.sleep(600)
            while data[0] == 1: pass
            if data[0] == 2: return {"flat": start["flat"] + np.nan}, {}
            if data[0] == 3: sys.exit("no licence")
        return {"flat": start["flat"] + 0.01}, {}

class Loops(Moody):
    def evaluate(self, parameters, data):
        while True: pass

class Sleeps(Moody):
    def load(self, part): time.sleep(600)
"""


def run_fedlog(stage: Stage, words: list[str]) -> subprocess.CompletedProcess[str]:
    """A command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "ops.terminal.cli", *words, *stage.options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=stage.folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def check_evaluator(stage: Stage) -> None:
    """An evaluation that loops and data that never come are named, with line and advice, and the others are scored."""
    for task in ("loops", "sleeps"):
        stage.until_version(task, 0)
    words = ["evaluate", "--json", "--limit-s", "3"]
    words += [word for name in ("Moody", "Loops", "Sleeps") for word in ("--allow", f"moody:{name}")]
    run = run_fedlog(stage, words)
    assert run.returncode == 0, run.stderr
    scored = [json.loads(line) for line in run.stdout.splitlines()]
    assert [(score["task"], score["version"]) for score in scored] == [("moody", version) for version in range(3)]
    for task, code in (("loops", "evaluation"), ("sleeps", "loading data with 'moody:Sleeps.load'")):
        told = [line for line in run.stderr.splitlines() if line.startswith(f"{task} version 0: not scored. {code}")]
        assert len(told) == 1, run.stderr
        assert re.search(r"did not end within 3 s.*moody\.py:\d+\)", told[0]), told
        assert "--limit-s" in told[0]


@pytest.mark.timeout(300)
def test_a_fleet_outlives_its_learners(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """A sleep, a loop, NaN and an exit cost a lease each, hanging data a device, a hanging evaluation a task."""
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
        for task, learner in (("loops", "moody:Loops"), ("sleeps", "moody:Sleeps")):
            stage.create_task(task, msgspec.structs.replace(rules, learner=learner), parameters=6)
        stage.start(*PLAIN_ACTORS)
        words = ["fleet", "--task", "moody", "--devices", str(DEVICES + HANGING), "--processes", "1"]
        words += ["--allow", "moody:Moody", "--load-s", str(LOAD_S)]
        words += ["--json"]
        run = run_fedlog(stage, words)
        # Because two devices failed; the task is over all the same.
        assert run.returncode == 1, run.stderr + stage.tails()
        assert "moody is over" in run.stderr, run.stderr + stage.tails()
        counts = json.loads(run.stdout)
        assert (counts["failed"], counts["devices"]) == (HANGING, DEVICES + HANGING)
        assert len(counts["failed_for"]) == HANGING
        for reason in counts["failed_for"]:
            assert "loading data with 'moody:Moody.load'" in reason, reason
            assert f"did not end within {LOAD_S} s" in reason, reason
            assert "--load-s" in reason, reason
            assert "moody.py:" in reason, reason
        reasons = counts["reasons"]
        for told in (
            "its process was ended (",
            "it did not end with its lease",
            "NaN or infinity in 'flat'",
            "no licence",
        ):
            assert sum(count for reason, count in reasons.items() if told in reason) == 1, (told, reasons)
        assert counts["given_up"] == sum(reasons.values())
        # Two rounds of all four, and nothing of what was not finished.
        assert counts["trained"] >= 2 * DEVICES
        stage.until_version("moody", 2)
        check_evaluator(stage)
        assert "waiting_for sim0-00000, training for" in run.stderr
