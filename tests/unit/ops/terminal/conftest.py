"""A log with a running task, and `fedlog` on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ops.settings import ENVIRONMENT, Settings
from ops.terminal.cli import app
from schemas.events import DeploymentFounded, VersionEvaluated
from streams.memory import MemoryLog
from tests.unit.ops.history.test_projections import ROUND
from tests.worlds.builders import DEPLOYMENT, spending
from tests.worlds.ops_journal import TASK, Journal, append, created, memory_log, write_key

Run = Callable[..., Result]


def founded_log() -> MemoryLog:
    """An empty log whose deployment has the name that everybody in it was certified for."""
    log = memory_log()
    append(log, "tasks", DeploymentFounded(deployment=DEPLOYMENT), partition=0)
    return log


@pytest.fixture
def log() -> MemoryLog:
    """A log with a running task."""
    log = founded_log()
    append(log, "tasks", created(spent_before=(spending(4),)))
    Journal(log, "rounds").batch(*ROUND)
    fact = VersionEvaluated(task=TASK, version=0, metrics={"accuracy": 0.125}, samples=9, cohort="")
    append(log, "evaluations", fact)
    return log


@pytest.fixture
def run(log: MemoryLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs `fedlog` on that log, in a folder of its own and without the environment's settings."""
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": log)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
