"""`fedlog devices` beside a reader of the journals: who takes part, and what became of it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ops.terminal.cli import app
from schemas.events import LeaseClosed, LeaseGranted, UpdateAdmitted, UpdateRefused
from schemas.topics import ROUNDS, SELECTIONS
from streams.journals import read_decisions
from streams.log import TopicPartition
from tests.tables import synced, tell


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The story as a file, which answers without any Kafka."""
    path = tmp_path_factory.mktemp("history") / "history.duckdb"
    with synced(path, tell().log):
        pass
    return path


def run(history: Path, *words: str) -> Result:
    """The command, as somebody types it who has the file alone."""
    return CliRunner().invoke(app, ["--folder", str(history.parent / "d"), "devices", *words, "--file", str(history)])


def _count() -> dict[tuple[str, str], Counter[str]]:
    """What became of each task's and device's leases, out of the journals alone."""
    story, counted, ended = tell(), dict[tuple[str, str], Counter[str]](), dict[str, tuple[tuple[str, str], str]]()
    for topic in (SELECTIONS, ROUNDS):
        for _, decision, _ in read_decisions(story.log, TopicPartition(topic.name, story.partition), trust=None):
            for event in decision.events:
                match event:
                    case LeaseGranted():
                        counted.setdefault((event.task, event.device), Counter())["leases"] += 1
                    case LeaseClosed():
                        ended[event.lease] = ((event.task, event.device), event.outcome)
                    case UpdateAdmitted():
                        counted.setdefault((event.task, event.device), Counter())["admitted"] += 1
                    case UpdateRefused():
                        counted.setdefault((event.task, event.device), Counter())["refused"] += 1
    for who, outcome in ended.values():
        counted[who][outcome if outcome in ("expired", "abandoned") else "other"] += 1
    return counted


def test_every_task_of_the_story_is_told_as_its_journals_tell_it(history: Path) -> None:
    """Each count of each device, its cohort's sum, and shares that are those of the whole."""
    counted = _count()
    tasks = {task for task, _ in counted}
    for task in tasks:
        told = json.loads(run(history, task, "--json").stdout)
        devices = {row["device"]: row for row in told["devices"]}
        for name in ("leases", "admitted", "refused", "expired", "abandoned"):
            assert {who: row[name] for who, row in devices.items()} == {
                device: each[name] for (of, device), each in counted.items() if of == task and device in devices
            }
            for cohort in told["cohorts"]:
                own = [row[name] for row in told["devices"] if row["cohort"] == cohort["cohort"]]
                assert cohort[name] == sum(own)
        admitted = sum(row["admitted"] for row in told["devices"])
        assert [row["share"] for row in told["devices"]] == [
            pytest.approx(row["admitted"] / admitted) if admitted else None for row in told["devices"]
        ]
    assert len(tasks) > 3


def test_a_screen_shows_the_busiest_and_says_what_it_leaves_out(history: Path) -> None:
    """A fleet has thousands of devices, and nobody must take the first of them for all."""
    shown = run(history, "digits", "--limit", "1")
    assert shown.exit_code == 0, shown.output
    assert "The 1 busiest of" in shown.output
    assert "only counted" in shown.output
    busiest = json.loads(run(history, "digits", "--json").stdout)["devices"][0]["device"]
    assert busiest[:12] in shown.output


def test_a_task_that_is_not_there_is_named_with_those_that_are(history: Path) -> None:
    """A typing error ends with what to type instead, and a quotation mark is no way into the question."""
    for typed, said in (("digit", "digits"), ("digits' OR '1'='1", "no name of a task")):
        refused = run(history, typed)
        assert refused.exit_code == 2
        assert said in refused.output
