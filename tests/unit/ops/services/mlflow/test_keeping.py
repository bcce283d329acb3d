"""A server is kept up to a log: through its absence, with files as they are exported, and while it is followed."""

from __future__ import annotations

import hashlib
import json
from contextlib import closing
from typing import Any

import pytest

from ops.services.mlflow import keeping
from ops.services.mlflow.entries import Courses
from ops.services.mlflow.keeping import Keeper, Waiting
from ops.services.mlflow.registering import Names
from ops.services.mlflow.server import ServerRefuses
from streams.log import TopicPartition
from streams.memory import MemoryLog
from tests.worlds.builders import DEPLOYMENT, TASK
from tests.worlds.mlflow.stories import WHOLE, summarize, tell_story
from tests.worlds.mlflow.twin import TwinServer, Watched, away_at, pass_by
from tests.worlds.ops_journal import PLACE
from tests.worlds.published.announcing import OPERATOR, announce_rollout, publish


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it waits, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr(keeping, "sleep", waited.append)
    return waited


def keep(log: MemoryLog, server: Any, *, task: str = "") -> list[Any]:
    """What is done up to the present end."""
    courses = Courses(operator=OPERATOR, deployment=DEPLOYMENT, partitions=log.partitions)
    with closing(Keeper(log, server, courses=courses, names=Names(), task=task)) as keeper:
        return [*keeper.keep(follow=False)]


def test_all_files_of_a_version_are_there(tmp_path: Any) -> None:
    """Guarantee: the model with its tensors by name, its configuration and its privacy record, as they are exported."""
    log, server = tell_story(), TwinServer()
    keep(log, server)
    assert summarize(server) == WHOLE
    [third] = server.list_versions(TASK, {"fedlog.version": "3"})
    files = server.runs[third.run].files
    assert set(files) == {"model.safetensors", "config.json", "privacy.log"}
    told = json.loads(files["config.json"])
    assert told["files"] == {"model.safetensors": hashlib.sha256(files["model.safetensors"]).hexdigest()}
    assert told["published_sha256"] == third.tags["fedlog.sha256"]


def test_what_retention_has_deleted_is_registered_without() -> None:
    """Guarantee: a version is never left out for the want of its files."""
    log, server = tell_story(), TwinServer()
    log.delete_records(TopicPartition("models", PLACE), 2)
    keep(log, server)
    gone = server.list_versions(TASK, {"fedlog.model_gone": "true"})
    assert [one.tags["fedlog.version"] for one in gone] == ["0", "1"]
    assert summarize(server) == WHOLE


def test_a_server_that_is_away_is_waited_for_and_said(waits: list[float]) -> None:
    """Guarantee: later and later, with a word each time, and nothing twice when it is back."""
    server = TwinServer()
    watched = Watched(server, before=away_at(9, 10, 11, 30), behind=pass_by)
    told = keep(tell_story(), watched)
    assert [one.again_s for one in told if isinstance(one, Waiting)] == waits == [1.0, 2.0, 4.0, 1.0]
    assert summarize(server) == WHOLE


@pytest.mark.parametrize("refusals", [1, 100])
def test_what_somebody_has_deleted_by_hand_is_looked_for_anew(refusals: int) -> None:
    """Guarantee: one refusal is looked into, and the server has all in the end; if it goes on, it is told."""
    refused: list[int] = []

    def refuse(number: int) -> None:
        if number >= 20 and len(refused) < refusals:
            refused.append(number)
            raise ServerRefuses("no such version", reason="RESOURCE_DOES_NOT_EXIST")

    server = TwinServer()
    watched = Watched(server, before=refuse, behind=pass_by)
    if refusals == 1:
        keep(tell_story(), watched)
        assert summarize(server) == WHOLE
    else:
        with pytest.raises(ServerRefuses):
            keep(tell_story(), watched)


def test_only_the_task_that_was_asked_for() -> None:
    """Guarantee: nothing of another task gets there."""
    server = TwinServer()
    assert keep(tell_story(), server, task="other") == []
    assert server.models == {}


def test_what_comes_while_it_follows_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guarantee: it goes on without an end, and an alias moves with the next announcement."""
    log, server = tell_story(), TwinServer()
    monkeypatch.setattr(keeping, "POLL_S", 0.0)
    courses = Courses(operator=OPERATOR, deployment=DEPLOYMENT, partitions=log.partitions)
    with closing(Keeper(log, server, courses=courses, names=Names())) as keeper:
        course = keeper.keep(follow=True)
        told = next(course)
        while told.what != "champion is version 1":
            told = next(course)
        publish(log, announce_rollout("promoted", 3, seq=6))
        assert {next(course).what, next(course).what} == {"champion is version 3", "candidate is none"}
