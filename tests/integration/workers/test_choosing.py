"""Whom a task chooses and whom it passes over, with real workers, devices and broker: utility, and too few classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.events import UpdateAdmitted
from streams.kafka.settings import KafkaSettings
from tests.judges.logbook import read
from tests.places import home_of
from tests.root import ROOT
from tests.worlds.builders import policy
from tests.worlds.stage import ACTORS, Stage, say, staged

DEVICES, SLOTS, VERSIONS = 6, 2, 16
# Two at first, then one a round beside one that is known.
TRIES = 2 + 2 * (DEVICES - 2)
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
    """Guarantee: others are tried, then those of most loss lead; too few classes are told, never trained.

    An independent reader finds the journals lawful (the selector keeps each report as it was admitted), and a replay
    decides the same.
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
        stage.start(*ACTORS)
        assert run_fleet(stage, "useful")["given_up"] == 0
        members = read_members(stage, "useful")
        assert len(members) == SLOTS * VERSIONS
        chosen = members[TRIES:]
        # Untried devices come in as long as there are any, and so do not all wait for the best of the first.
        assert len({event.device for event in members}) > 2 * SLOTS
        counted = Counter(event.samples for event in chosen)
        say(f"examples of those chosen: {counted}")
        # Of so few all come forward in time, because they were long in no round: the order is what remains.
        assert counted[6] + counted[7] + counted[8] > counted[3] + counted[4] + counted[5], counted
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
