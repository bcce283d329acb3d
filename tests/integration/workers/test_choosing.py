"""Whom a task chooses and whom it passes over, with real workers, devices and broker: utility, and too few classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from schemas.events import UpdateAdmitted
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import read
from tests.places import home_of
from tests.root import ROOT
from tests.worlds.builders import policy
from tests.worlds.stage import PLAIN_ACTORS, Stage, staged

DEVICES, SLOTS, VERSIONS = 6, 2, 5
# Device i has i + 3 examples and a loss of 4 to the power of i; the labels of every second one are all alike.
UNEVEN = """
import numpy as np

class Uneven:
    def initialize(self, seed): return {"flat": np.zeros(6)}
    def load(self, part):
        count = part.index + 3
        return np.ones((count, 2)), np.arange(count) % (1 + part.index % 2)
    def evaluate(self, parameters, data): return {"sum": 1.0}
    def train(self, start, data, context):
        return {"flat": start["flat"] + 0.01}, {"loss": 4.0 ** (len(data[1]) - 3)}
"""
PLAIN: dict[str, Any] = {"model": "", "learner": "uneven:Uneven", "aggregation": {"updates_per_round": SLOTS}}


def run_fleet(stage: Stage, task: str) -> dict[str, Any]:
    """A fleet to the end of its task; what its devices did."""
    words = ["fleet", "--task", task, "--devices", str(DEVICES), "--processes", "1", "--allow", "uneven:Uneven"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ops.terminal.cli", *words, "--json", *stage.options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=stage.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + stage.tails()
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


def read_members(stage: Stage, task: str) -> list[UpdateAdmitted]:
    """The updates of a task, in order."""
    book = read(stage.log, home_of(task), operator=stage.key.public_key, deployment=stage.deployment)
    return [event for event in book.rounds.events(UpdateAdmitted) if event.task == task]


@pytest.mark.timeout(240)
def test_a_task_chooses_useful_devices_and_passes_over_poor_ones(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    """Guarantee: devices that were not tried yet are tried; too few classes are told, never trained.

    Whom the rule prefers is a matter of unit tests: of six devices all are soon the longest absent. Here the journals
    are lawful to an independent reader, and a replay of the selector's decides the same from the reports in them.
    """
    (tmp_path / "uneven.py").write_text(UNEVEN)
    selection = {"devices_expected": DEVICES, "concurrency": SLOTS, "retry_after_s": 0.2, "lease_s": 30.0}
    useful = policy(
        **PLAIN,
        selection={**selection, "retry_after_s": 0.4, "rule": "utility", "exploration": 1 / SLOTS},
        staleness={"max_versions": 0},
        evaluation={"report": ["loss"]},
        stop={"versions_max": VERSIONS},
    )
    varied = policy(**PLAIN, selection=selection, training={"classes_min": 2}, stop={"versions_max": 3})
    with staged(kafka_settings, tmp_path) as stage:
        stage.create_task("useful", useful, parameters=6)
        stage.create_task("varied", varied, parameters=6)
        stage.start(*PLAIN_ACTORS)
        assert run_fleet(stage, "useful")["given_up"] == 0
        members = read_members(stage, "useful")
        assert len(members) == SLOTS * VERSIONS
        # Half of the places are for devices that are not known yet, as long as there are any.
        assert len({event.device for event in members}) > SLOTS
        counts = run_fleet(stage, "varied")
        poor = [reason for reason in counts["reasons"] if "classes_min = 2" in reason]
        assert len(poor) == 1, counts
        assert counts["given_up"] == counts["reasons"][poor[0]] >= 1
        # Those of two classes have an even number of examples.
        assert {event.samples % 2 for event in read_members(stage, "varied")} == {0}
        shown = json.loads(stage.fedlog("task", "show", "varied", "--json").stdout)
        assert shown["leases_abandoned"]["too_few_classes"] >= 1
        stage.until_lawful(home_of("useful"), home_of("varied"))
        checked = stage.fedlog("replay", "--full", "--json")
        assert checked.exit_code == 0, checked.stdout + checked.stderr
