"""The tasks of a log from Python: the same facts as the console's, over a log in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import fedlog
from ops.operator.errors import TaskUnknown, VersionUnknown
from ops.settings import ENVIRONMENT, Settings
from schemas.events import TaskHalted, VersionEvaluated
from schemas.topics import PUBLISHED
from tests.unit.ops.history.test_projections import ROUND
from tests.worlds.ops_journal import TASK, Journal, append, created, memory_log, write_key
from tests.worlds.releasing.public_log import announced


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> fedlog.Deployment:
    """A deployment with one task that has ended, of whose versions one has a score."""
    log = memory_log()
    append(log, "tasks", created())
    Journal(log, "rounds").batch(*ROUND, TaskHalted(task=TASK, reason="versions_max", version=1))
    append(log, "evaluations", VersionEvaluated(task=TASK, version=0, metrics={"loss": 0.5}, samples=9, cohort=""))
    monkeypatch.setattr(Settings, "log", lambda self, client_id="": log)
    monkeypatch.setattr("fedlog.deployment.SCORE_WAIT_S", 0.0)
    monkeypatch.chdir(tmp_path)
    write_key(tmp_path / ".fedlog" / "operator.key")
    for variable in ENVIRONMENT:
        monkeypatch.delenv(variable, raising=False)
    return fedlog.connect(bootstrap_servers="somewhere:1")


def test_tasks_are_listed_and_followed(deployment: fedlog.Deployment) -> None:
    """Guarantee: each version comes once, with its scores; what was never scored comes when the task is over."""
    with deployment as log:
        assert [row["task"] for row in log.list_tasks()] == [TASK]
        task = log.find_task(TASK)
        followed = list(task.follow())
        assert followed == task.list_versions()
        assert followed[0] == fedlog.Version(0, {"loss": 0.5})
        assert task.summarize()["status"] == "halted: versions_max"

        async def follow() -> list[fedlog.Version]:
            return [version async for version in task.follow_async()]

        assert asyncio.run(follow()) == followed
        with pytest.raises(TaskUnknown, match="ringz"):
            log.find_task("ringz")


def test_what_is_in_production_is_found(deployment: fedlog.Deployment) -> None:
    """Guarantee: by what a rollout has signed, for everybody and for a device in a canary; nothing is said as such."""
    with deployment as log:
        task = log.find_task(TASK)
        with pytest.raises(VersionUnknown, match="No version of 'digits' is in production"):
            task.read_model(promoted=True)
        append(log.log, PUBLISHED.name, announced("promoted", 0, seq=1))
        append(log.log, PUBLISHED.name, announced("canary", 1, seq=2, share=1.0, cohorts=["a"]))
        assert (task.find_promoted(), task.find_promoted(device="d", cohort="a")) == (0, 1)


def test_a_deployment_is_open_inside_its_block(deployment: fedlog.Deployment) -> None:
    """Guarantee: outside of it a call says what is missing."""
    with pytest.raises(RuntimeError, match=r"with fedlog\.connect"):
        deployment.list_tasks()
