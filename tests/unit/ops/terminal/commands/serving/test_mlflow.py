"""`fedlog mlflow`: says what it lacks, and prints what it does."""

from __future__ import annotations

import json
import sys

import pytest

from ops.services.mlflow import server
from ops.terminal.commands.serving import mlflow
from schemas.events import VersionEvaluated
from streams.memory import MemoryLog
from tests.unit.ops.terminal.conftest import Run
from tests.worlds.builders import TASK
from tests.worlds.mlflow.twin import TwinServer
from tests.worlds.ops_journal import append
from tests.worlds.published.announcing import announce_rollout, announce_version, publish

THERE = ("--tracking-uri", "http://127.0.0.1:1")


def test_without_the_extra_it_says_how_to_install_it(run: Run) -> None:
    """Guarantee: an extra that is not there ends in a line that brings it, and workers never ask for it."""
    if "mlflow" not in sys.modules:
        result = run("mlflow", *THERE)
        assert result.exit_code == 2
        assert "pip install 'fedlog[mlflow]'" in result.stderr


def test_what_was_done_is_printed(run: Run, log: MemoryLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: a line a version, a score and an alias; JSON for programs."""
    publish(log, announce_version(0), announce_rollout("promoted", 0))
    monkeypatch.setattr(mlflow, "require_mlflow", lambda: None)
    monkeypatch.setattr(server, "RealServer", lambda uri: twin)
    twin = TwinServer()
    told = run("mlflow", *THERE).stdout.splitlines()
    assert told == [f"{TASK}: version 0 is {TASK} 2", f"{TASK}: champion is version 0"]
    append(log, "evaluations", VersionEvaluated(task=TASK, version=0, metrics={"f1": 0.5}, samples=3, cohort="paris"))
    plain = json.loads(run("mlflow", *THERE, "--json").stdout)
    assert plain == {"task": TASK, "done": "version 0: f1/paris 0.5, samples/paris 3"}
